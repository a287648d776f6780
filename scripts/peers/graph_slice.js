// Adapts a slice of Graph's OpenAPI description, as prism_slice.js writes it, to what Graph does:
//   node graph_slice.js SLICE OUT
// The description is generated from Graph's metadata and is stricter or vaguer than the service in some places.
const fs = require("fs");
const [source, out] = process.argv.slice(2);
const slice = JSON.parse(fs.readFileSync(source, "utf8"));

// Graph answers with minimal metadata unless it is asked for more (learn.microsoft.com, "Customize Microsoft Graph
// responses"), so no object has @odata.type.
const open = [slice];
while (open.length > 0) {
  const node = open.pop();
  if (node === null || typeof node !== "object") continue;
  if (Array.isArray(node.required)) node.required = node.required.filter((name) => name !== "@odata.type");
  if (Array.isArray(node.required) && node.required.length === 0) delete node.required;
  open.push(...Object.values(node));
}

// The objects of Graph refer to each other without end, which prism cannot load: references are inlined two deep, and
// everything below may be anything.
const inline = (node, depth) => {
  if (node === null || typeof node !== "object") return node;
  if (Array.isArray(node)) return node.map((item) => inline(item, depth));
  if (typeof node.$ref === "string") {
    const [, , kind, name] = node.$ref.split("/");
    return kind === "schemas" && depth === 2 ? {} : inline(slice.components[kind][name], kind === "schemas" ? depth + 1 : depth);
  }
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, inline(value, depth)]));
};
slice.paths = inline(slice.paths, 0);
slice.components = {};

for (const item of Object.values(slice.paths)) {
  for (const operation of Object.values(item)) {
    if (!operation.responses) continue;
    // The values of $expand are listed without the options in brackets that OData allows and that learn.microsoft.com shows.
    for (const parameter of operation.parameters || []) {
      if (parameter.name === "$expand") parameter.schema = { type: "string" };
    }
    // A response of the range 2XX becomes the one that Graph sends.
    for (const [range, status] of [["2XX", "200"], ["4XX", "400"], ["5XX", "500"]]) {
      if (operation.responses[range]) {
        operation.responses[status] = operation.responses[range];
        delete operation.responses[range];
      }
    }
  }
}

// Graph's description declares no security. Every call needs the header `Authorization: Bearer`.
slice.security = [{ bearer: [] }];
slice.components = { securitySchemes: { bearer: { type: "http", scheme: "bearer" } } };

// learn.microsoft.com, "List children of a driveItem": the folder can be named `root`, and the drive by its site.
const children = slice.paths["/drives/{drive-id}/items/{driveItem-id}/children"];
if (children) {
  const get = JSON.parse(JSON.stringify(children.get));
  get.operationId = "sites.drive.root.children";
  get.parameters = (get.parameters || []).filter((parameter) => parameter.in !== "path");
  const site = { name: "site-id", in: "path", required: true, schema: { type: "string" } };
  slice.paths["/sites/{site-id}/drive/root/children"] = { parameters: [site], get };
  delete slice.paths["/drives/{drive-id}/items/{driveItem-id}/children"];
}

// The examples of learn.microsoft.com ("List organization", "sites: getAllSites"), because prism would make up an id.
const example = (path, value) => {
  const operation = slice.paths[path] && slice.paths[path].get;
  if (operation) operation.responses["200"] = { description: "ok", content: { "application/json": { schema: { type: "object" }, example: value } } };
};
if (process.argv[4] === "examples") {
  // The example of every list would have a next page called `string`.
  const lists = [slice.paths];
  while (lists.length > 0) {
    const node = lists.pop();
    if (node === null || typeof node !== "object") continue;
    if (node.properties) delete node.properties["@odata.nextLink"];
    lists.push(...Object.values(node));
  }
  example("/organization", {
    value: [{ id: "84841066-274d-4ec0-a5c1-276be684bdd3", displayName: "Contoso", verifiedDomains: [{ isInitial: true, name: "Contoso.onmicrosoft.com" }] }],
  });
  example("/sites/{site-id}", {
    id: "contoso.sharepoint.com,bf6fb551-d508-4946-a439-b2a6154fc1d9,65a04b8b-1f44-442b-a1fc-9e5852fb946c",
    displayName: "Root Site",
    webUrl: "https://contoso.sharepoint.com",
  });
}
fs.writeFileSync(out, JSON.stringify(slice));
