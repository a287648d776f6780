// A program that uses the types of openapi-typescript with openapi-fetch. It prints what it saw as JSON.
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

const [url, token, file] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${token}` } });

type State = components["schemas"]["State"];

function known<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (answer.data === undefined) {
    throw new Error(`${answer.response.status} ${JSON.stringify(answer.error)}`);
  }
  return answer.data;
}

async function main(): Promise<void> {
  const pushed = known(
    await client.POST("/connections/onboard", {
      body: {
        source_type: "filesource",
        resource_ids: [file],
        risk_level: "low",
        evidence: { status: "Sanctioned", source: "IdP", ts: "2026-11-08T18:00:00Z" },
        owner: { user: "owner@acme.example", confidence: 0.95, why: "admin" },
      },
    }),
  );
  const active: State = "ACTIVE";
  const page = known(await client.GET("/connections", { params: { query: { state: active, limit: 10 } } }));
  const path = { id: pushed.connection_id };
  const one = known(await client.GET("/connections/{id}", { params: { path } }));
  const healed = known(await client.POST("/connections/{id}/heal", { params: { path } }));
  const funnel = known(await client.GET("/metrics/funnel"));
  const catalog = known(await client.GET("/connections/{id}/catalog", { params: { path } }));
  const missing = await client.GET("/connections/{id}", { params: { path: { id: "8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e" } } });
  const code: components["schemas"]["ProblemCode"] | undefined = missing.error?.code;
  console.log(
    JSON.stringify({
      pushed: pushed.status,
      listed: page.connections.map((connection) => connection.connection_id),
      steps: one.steps?.map((step) => step.step),
      healed: healed.status,
      active: funnel.active,
      streams: catalog.streams_total,
      code,
    }),
  );
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
