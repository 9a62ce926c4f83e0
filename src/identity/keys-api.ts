import type { Route } from "../platform/route.ts";

export const keyRoutes: Route[] = [];
