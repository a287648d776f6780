// Reduces a description of one of Google's APIs to some paths and the components that they use.
//   node google_slice.js DESCRIPTION OUT PREFIX PATH[=NEW_PATH=SCHEMA]...
//
// Google's descriptions write /v3/{name} for every kind of resource, where the value of name has slashes, and only one of the
// methods with such a path is left in the description. Each such path is replaced by the path of one kind of resource, whose
// response has SCHEMA. PREFIX is the path of the server, so that a client can be given the host alone.
const fs = require("fs");
const [source, out, prefix, ...paths] = process.argv.slice(2);
const whole = JSON.parse(fs.readFileSync(source, "utf8"));
const { components } = whole;
const slice = { openapi: whole.openapi, info: whole.info, paths: {}, components: { securitySchemes: components.securitySchemes } };

for (const text of paths) {
  const [path, renamed = path, schema] = text.split("=");
  const item = structuredClone(whole.paths[path]);
  if (!item) throw new Error(`${source} does not describe ${path}`);
  const names = [...renamed.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
  for (const [method, operation] of Object.entries(item)) {
    if (method === "parameters") continue;
    // Calls that write are left out: AAM makes none.
    if (method !== "get" && !path.endsWith(":testIamPermissions")) {
      delete item[method];
      continue;
    }
    const others = (operation.parameters || []).filter((parameter) => parameter.in !== "path");
    operation.parameters = [...names.map((name) => ({ in: "path", name, required: true, schema: { type: "string" } })), ...others];
    if (schema) operation.responses["200"].content["application/json"].schema = { $ref: `#/components/schemas/${schema}` };
  }
  slice.paths[prefix + renamed] = item;
}

const open = [slice.paths];
while (open.length > 0) {
  const node = open.pop();
  if (node === null || typeof node !== "object") continue;
  for (const [key, value] of Object.entries(node)) {
    if (key !== "$ref" || typeof value !== "string") {
      open.push(value);
      continue;
    }
    const [, , kind, name] = value.split("/");
    slice.components[kind] = slice.components[kind] || {};
    if (!slice.components[kind][name]) {
      slice.components[kind][name] = components[kind][name];
      open.push(components[kind][name]);
    }
  }
}
fs.writeFileSync(out, JSON.stringify(slice));
