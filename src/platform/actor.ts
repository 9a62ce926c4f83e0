export type ActorType = "User" | "System" | "Agent" | "APIKey" | "Anonymous";
export type ScopeType = "global" | "profile" | "issuer";

/** A permission the actor holds, and its scope. `scope_id` is absent when global. */
export interface EffectivePermission {
  readonly permission: string;
  readonly scope_type: ScopeType;
  readonly scope_id?: string;
}

/** The result of authentication; never taken from a request body. */
export interface Actor {
  readonly id: string;
  readonly type: ActorType;
  readonly tenant_id: string;
  readonly roles: readonly string[];
  readonly permissions: readonly EffectivePermission[];
  /**
   * The user (or other actor) accountable for an API key: the root of the chain of keys that created it. Absent for
   * other actors.
   */
  readonly owner?: { readonly type: ActorType; readonly id: string };
  /** The API key used for this request. */
  readonly key_id?: string;
  /** Set for a retired agent: its routes answer 410. */
  readonly retired_at?: string;
  /** Set for an agent that has not enrolled yet: the bootstrap credential it presented. It may only enrol itself. */
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
