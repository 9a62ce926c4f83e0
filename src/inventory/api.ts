import type { Route } from "../platform/route.ts";
import { certificateRoutes } from "./certificates/api.ts";
import { owners } from "./owners.ts";
import { profiles } from "./profiles.ts";
import { renewalPolicies } from "./renewal-policies.ts";
import { teams } from "./teams.ts";

export const inventoryRoutes: Route[] = [
  ...teams.routes,
  ...owners.routes,
  ...profiles.routes,
  ...renewalPolicies.routes,
  ...certificateRoutes,
];
