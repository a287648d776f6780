// Cuts a vendor's OpenAPI description down to some paths and what they reach: prism needs minutes for a whole one.
//   node prism_slice.js DESCRIPTION OUT PATH...
const fs = require("fs");
const [source, out, ...paths] = process.argv.slice(2);
const whole = JSON.parse(fs.readFileSync(source, "utf8"));
const slice = { openapi: whole.openapi, info: whole.info, servers: whole.servers, security: whole.security, paths: {}, components: {} };

for (const path of paths) {
  if (!whole.paths[path]) throw new Error(`${source} describes no ${path}`);
  slice.paths[path] = whole.paths[path];
}

// Slack's description knows only GET, and asks for the token in a header or parameter called `token`. Slack's
// documentation: every method may be sent as POST, with `Authorization: Bearer`, and the parameter is legacy.
if (/Slack/.test(whole.info.title)) {
  for (const path of Object.values(slice.paths)) {
    path.get.parameters = (path.get.parameters || []).filter((parameter) => parameter.name !== "token");
  }
  const test = slice.paths["/auth.test"];
  if (test) slice.paths["/auth.test"] = { post: test.get };
}

// GitHub's examples carry a Link to a page of api.github.com, which is not where the mock lies.
if (/GitHub/.test(whole.info.title)) {
  for (const path of Object.values(slice.paths)) {
    for (const operation of Object.values(path)) {
      for (const response of Object.values(operation.responses || {})) delete (response.headers || {}).Link;
    }
  }
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
    const [, components, kind, name] = value.split("/");
    if (components !== "components") throw new Error(`${value} is no component`);
    slice.components[kind] = slice.components[kind] || {};
    if (!slice.components[kind][name]) {
      slice.components[kind][name] = whole.components[kind][name];
      open.push(whole.components[kind][name]);
    }
  }
}
if (whole.components.securitySchemes) slice.components.securitySchemes = whole.components.securitySchemes;
fs.writeFileSync(out, JSON.stringify(slice));
