// Each marked line has a mistake, which tsc must refuse: an unused @ts-expect-error is an error.
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

const client = createClient<paths>({ baseUrl: "http://127.0.0.1" });

// @ts-expect-error: not a state
const state: components["schemas"]["State"] = "ACTIV";
// @ts-expect-error: not a class of a failure
const error: components["schemas"]["ErrorClass"] = "permision_denied";
// @ts-expect-error: not a step
const step: components["schemas"]["StepName"] = "tinysync";
// @ts-expect-error: not a stage of the funnel
const stage: components["schemas"]["FunnelStage"] = "activ";
// @ts-expect-error: not a code of a problem
const code: components["schemas"]["ProblemCode"] = "NOT_FOUNT";
// @ts-expect-error: not a scope
const scope: components["schemas"]["TokenScope"] = "registry:write";
// @ts-expect-error: the filter is a state
void client.GET("/connections", { params: { query: { state: "active!" } } });
// @ts-expect-error: no such endpoint
void client.GET("/conections");
// @ts-expect-error: the owner is required
const intent: components["schemas"]["connection_intent"] = { source_type: "jdbc", resource_ids: ["a"], risk_level: "low", evidence: { status: "Sanctioned", source: "IdP", ts: "2026-11-08T18:00:00Z" } };
// @ts-expect-error: a field that no answer has
const field = (result: components["schemas"]["ConnectionResult"]) => result.stauts;

export { code, error, field, intent, scope, stage, state, step };
