// Reduces a vendor's OpenAPI description to some paths and the components that they use, because prism needs minutes to
// load a complete description.
//   node prism_slice.js DESCRIPTION OUT PATH...
const fs = require("fs");
const [source, out, ...paths] = process.argv.slice(2);
const whole = JSON.parse(fs.readFileSync(source, "utf8"));
const slice = { openapi: whole.openapi, info: whole.info, servers: whole.servers, security: whole.security, paths: {}, components: {} };

for (const path of paths) {
  if (!whole.paths[path]) throw new Error(`${source} does not describe ${path}`);
  slice.paths[path] = whole.paths[path];
}

// Slack's description has only GET operations, and requires the token in a header or parameter called `token`. According
// to Slack's documentation, every method can be called with POST and `Authorization: Bearer`, and the parameter is legacy.
if (/Slack/.test(whole.info.title)) {
  for (const path of Object.values(slice.paths)) {
    path.get.parameters = (path.get.parameters || []).filter((parameter) => parameter.name !== "token");
  }
  const test = slice.paths["/auth.test"];
  if (test) slice.paths["/auth.test"] = { post: test.get };
}

// Atlassian's examples are JSON inside of a string, which prism would send as a string.
if (/Jira/.test(whole.info.title)) {
  for (const path of Object.values(slice.paths)) {
    for (const operation of Object.values(path)) {
      for (const response of Object.values(operation.responses || {})) {
        for (const content of Object.values(response.content || {})) {
          if (typeof content.example === "string") content.example = JSON.parse(content.example);
        }
      }
    }
  }
}

// GitHub's examples contain a Link header with a next page on api.github.com, which is not the host of the mock.
if (/GitHub/.test(whole.info.title)) {
  for (const path of Object.values(slice.paths)) {
    for (const operation of Object.values(path)) {
      for (const response of Object.values(operation.responses || {})) delete (response.headers || {}).Link;
    }
  }
}

// GitHub's description declares no security. According to GitHub's documentation, every call of this slice needs the header
// `Authorization: Bearer`, and the calls below /app accept nothing else; so prism refuses a call without the scheme.
if (/GitHub/.test(whole.info.title)) {
  slice.security = [{ bearer: [] }];
  whole.components.securitySchemes = { bearer: { type: "http", scheme: "bearer" } };
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
    if (components !== "components") throw new Error(`${value} is not a component`);
    slice.components[kind] = slice.components[kind] || {};
    if (!slice.components[kind][name]) {
      slice.components[kind][name] = whole.components[kind][name];
      open.push(whole.components[kind][name]);
    }
  }
}
if (whole.components.securitySchemes) slice.components.securitySchemes = whole.components.securitySchemes;
fs.writeFileSync(out, JSON.stringify(slice));
