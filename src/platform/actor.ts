export type ActorType = "User" | "System" | "Agent" | "APIKey" | "Anonymous";
export type ScopeType = "global" | "profile" | "issuer";

/** A permission that the actor really has, with the scope in which it holds. `scope_id` is absent when global. */
export interface EffectivePermission {
  readonly permission: string;
  readonly scope_type: ScopeType;
  readonly scope_id?: string;
}

/** Who acts: the result of authentication, never taken from a request's body. */
export interface Actor {
  readonly id: string;
  readonly type: ActorType;
  readonly tenant_id: string;
  readonly roles: readonly string[];
  readonly permissions: readonly EffectivePermission[];
  /** Who answers for an API key: the user (or other actor) at the beginning of the chain of keys; absent for the others. */
  readonly owner?: { readonly type: ActorType; readonly id: string };
  /** The API key that the request showed. */
  readonly key_id?: string;
  /** The actor is an agent that was retired then: all its routes are gone. */
  readonly retired_at?: string;
  /** The actor is an agent that is to be, behind this bootstrap credential: it may enrol itself and nothing else. */
  readonly enrols_by?: string;
}

export const SYSTEM_ACTOR: Actor = { id: "system", type: "System", tenant_id: "t-default", roles: [], permissions: [] };

export const ANONYMOUS_ACTOR: Actor = {
  id: "anonymous",
  type: "Anonymous",
  tenant_id: "t-default",
  roles: [],
  permissions: [],
};
