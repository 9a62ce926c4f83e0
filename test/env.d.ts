/// <reference types="@cloudflare/vitest-plugin/types" />

declare namespace Cloudflare {
  interface GlobalProps {
    mainModule: typeof import("../worker/index.ts");
  }
  interface Env {
    DB: D1Database;
    BYTES: R2Bucket;
    ISSUER: DurableObjectNamespace;
    PURGE: DurableObjectNamespace;
    SESSION: DurableObjectNamespace;
    ONCE: DurableObjectNamespace;
    WRITER: DurableObjectNamespace;
    TEST_MIGRATIONS: import("cloudflare:test").D1Migration[];
  }
}
