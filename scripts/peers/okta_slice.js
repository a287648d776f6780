// Reduces Okta's own API description (Swagger 2, package @okta/openapi) to some paths and the definitions that they use.
//   node okta_slice.js DESCRIPTION OUT PATH...
const fs = require("fs");
const [source, out, ...paths] = process.argv.slice(2);
const whole = JSON.parse(fs.readFileSync(source, "utf8"));
const slice = { ...whole, paths: {}, definitions: {} };
delete slice.host;
delete slice.basePath;
for (const path of paths) {
  if (!whole.paths[path]) throw new Error(`${source} does not describe ${path}`);
  slice.paths[path] = { get: whole.paths[path].get };
}

// The description leaves out what the recorded answers of the package okta show: many values may be null, a link may be a list,
// and the scope of an attribute is a text.
const loosen = (schema) => {
  for (const [name, property] of Object.entries(schema.properties || {})) {
    property["x-nullable"] = true;
    if (name === "_links" || name === "scope") schema.properties[name] = {};
    else if (property.$ref) schema.properties[name] = { allOf: [{ $ref: property.$ref }], "x-nullable": true };
  }
};
const open = [slice.paths];
while (open.length > 0) {
  const value = open.pop();
  if (value === null || typeof value !== "object") continue;
  const name = typeof value.$ref === "string" && value.$ref.startsWith("#/definitions/") && value.$ref.split("/").pop();
  if (name && !slice.definitions[name]) {
    slice.definitions[name] = whole.definitions[name];
    open.push(whole.definitions[name]);
  }
  open.push(...Object.values(value));
}
Object.values(slice.definitions).forEach(loosen);
fs.writeFileSync(out, JSON.stringify(slice));
