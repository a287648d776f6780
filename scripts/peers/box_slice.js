// Prepares the slice of Box's description for prism: node box_slice.js SLICE
//
// The description leaves out what Box documents elsewhere: `fields` chooses which fields an answer has, so none of a file's is
// always there; with markers, `next_marker` is a text that is empty on the last page; and "Common errors" has more codes than the
// description lists.
const fs = require("fs");
const [file] = process.argv.slice(2);
const slice = JSON.parse(fs.readFileSync(file, "utf8"));
// The scopes of the description are those of the whole API; every call of the slice needs the header.
slice.security = [{ bearer: [] }];
slice.components.securitySchemes = { bearer: { type: "http", scheme: "bearer" } };
// prism leaves out the path of the server, which is part of every address of Box.
slice.paths = Object.fromEntries(Object.entries(slice.paths).map(([path, item]) => [`/2.0${path}`, item]));
const open = [slice.components.schemas];
while (open.length > 0) {
  const node = open.pop();
  if (node === null || typeof node !== "object") continue;
  if (Array.isArray(node.required)) delete node.required;
  if (node.code && node.code.enum) delete node.code.enum;
  for (const name of ["next_marker", "prev_marker"]) {
    if (node[name] && node[name].type === "integer") node[name] = { type: "string", nullable: true, example: "" };
  }
  open.push(...Object.values(node));
}
// Three kinds of items have the same fields once none is required, and oneOf wants exactly one.
const text = JSON.stringify(slice).replaceAll('"oneOf":', '"anyOf":');
fs.writeFileSync(file, text);
