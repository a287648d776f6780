// Merges the slices of Azure's descriptions, as prism_slice.js writes them, into one description for prism:
//   node azure_slice.js SUBSCRIPTIONS RESOURCES AUTHORIZATION OUT
const fs = require("fs");
const [subscriptions, resources, authorization, out] = process.argv.slice(2);
const read = (file) => JSON.parse(fs.readFileSync(file, "utf8"));

// Components of different descriptions can have the same name, so each description gets a prefix of its own.
const prefixed = (slice, prefix) => {
  const rename = (node) => {
    if (node === null || typeof node !== "object") return node;
    if (Array.isArray(node)) return node.map(rename);
    return Object.fromEntries(
      Object.entries(node).map(([key, value]) => [key, key === "$ref" ? value.replace(/^(#\/components\/\w+\/)/, `$1${prefix}`) : rename(value)]),
    );
  };
  const components = {};
  for (const [kind, named] of Object.entries(slice.components || {})) {
    components[kind] = Object.fromEntries(Object.entries(named).map(([name, value]) => [prefix + name, rename(value)]));
  }
  return { paths: rename(slice.paths), components };
};

const merged = { openapi: "3.0.0", info: { title: "Azure Resource Manager", version: "1" }, paths: {}, components: {} };
for (const [file, prefix] of [[subscriptions, "s_"], [resources, "r_"], [authorization, "a_"]]) {
  const { paths, components } = prefixed(read(file), prefix);
  Object.assign(merged.paths, paths);
  for (const [kind, named] of Object.entries(components)) merged.components[kind] = { ...merged.components[kind], ...named };
}

// MicrosoftDocs/azure-docs, "Use Resource Manager authentication API to access subscriptions": the permissions of the caller can
// also be listed for the subscription; the description has the call for a resource group.
const group = "/subscriptions/{subscriptionId}/resourcegroups/{resourceGroupName}/providers/Microsoft.Authorization/permissions";
const permissions = JSON.parse(JSON.stringify(merged.paths[group]));
permissions.get.operationId = "Permissions_ListForSubscription";
for (const owner of [permissions, permissions.get]) {
  if (owner.parameters) owner.parameters = owner.parameters.filter((parameter) => parameter.name !== "resourceGroupName");
}
merged.paths[group.replace("/resourcegroups/{resourceGroupName}", "")] = permissions;
delete merged.paths[group];

// The recordings of azure-mgmt-resource show the list of subscriptions without nextLink, which the description demands.
for (const schema of Object.values(merged.components.schemas)) {
  if (schema.required) schema.required = schema.required.filter((name) => name !== "nextLink");
  if (schema.required && schema.required.length === 0) delete schema.required;
}

for (const item of Object.values(merged.paths)) {
  for (const operation of Object.values(item)) {
    if (!operation.responses) continue;
    delete operation.security;
    // The error of Resource Manager, which the recordings of azure-mgmt-resource have; the descriptions name it differently.
    operation.responses.default = {
      description: "error",
      content: {
        "application/json": {
          schema: {
            type: "object",
            required: ["error"],
            properties: { error: { type: "object", required: ["code", "message"], properties: { code: { type: "string" }, message: { type: "string" } } } },
          },
        },
      },
    };
  }
}

// The descriptions ask for an OAuth flow, which prism takes as the header `Authorization: Bearer`.
merged.components.securitySchemes = { bearer: { type: "http", scheme: "bearer" } };
merged.security = [{ bearer: [] }];
fs.writeFileSync(out, JSON.stringify(merged));
