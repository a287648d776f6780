// Reads tables of the sandbox's Supabase with @supabase/postgrest-js and prints one JSON object:
//   node supabase_check.js NODE_MODULES BASE KEY [JWT]
const [modules, base, key, jwt] = process.argv.slice(2);
const { PostgrestClient } = require(`${modules}/@supabase/postgrest-js`);

const headers = { apikey: key };
if (jwt) headers.Authorization = `Bearer ${jwt}`;
const client = new PostgrestClient(`${base}/rest/v1`, { headers });

const brief = ({ data, error, status }) => (error ? { status, code: error.code ?? null, message: error.message } : { status, data });

(async () => {
  const read = {
    first: brief(await client.from("todos").select("id,task").limit(2)),
    last: brief(await client.from("todos").select("id").range(10, 14)),
    one: brief(await client.from("todos").select("*").eq("id", 3)),
    customers: brief(await client.from("customers").select("id").limit(1)),
    nothing: brief(await client.from("nothing").select("*")),
  };
  console.log(JSON.stringify(read));
})();
