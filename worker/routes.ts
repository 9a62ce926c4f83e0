import { authorityRoutes } from "../src/authority/api.ts";
import { publicRoutes } from "../src/authority/local/public/api.ts";
import { fleetRoutes } from "../src/fleet/api.ts";
import { identityRoutes } from "../src/identity/api.ts";
import { inventoryRoutes } from "../src/inventory/api.ts";
import { lifecycleRoutes } from "../src/lifecycle/api.ts";
import type { Route } from "../src/platform/route.ts";
import { systemRoutes } from "./system.ts";
import { workRoutes } from "./work.ts";

/** All routes of the API. Dispatch, authentication, the OpenAPI document and the tests use this table. */
export const routes: readonly Route[] = [
  ...systemRoutes,
  ...publicRoutes,
  ...authorityRoutes,
  ...identityRoutes,
  ...inventoryRoutes,
  ...fleetRoutes,
  ...lifecycleRoutes,
  ...workRoutes,
];
