import { expect } from "vitest";
import { makeCsr } from "./csr.ts";
import type { Fleet } from "./fleet.ts";

export interface TestRecord {
  readonly id: string;
  readonly common_name: string;
}

/** The way of certificates through a fleet: records, jobs, the agent's CSRs. `name` keeps the names of suites apart. */
export class Certificates {
  readonly #fleet: Fleet;
  readonly #name: string;
  #n = 0;

  constructor(fleet: Fleet, name: string) {
    this.#fleet = fleet;
    this.#name = name;
  }

  /** A record of its own names, mapped to the fleet's target unless told otherwise. */
  async record(more: Record<string, unknown> = {}): Promise<TestRecord> {
    const common_name = `${this.#name}-${++this.#n}.example.com`;
    const { id } = await this.#fleet.admin.create("/api/v1/certificates", {
      name: `${this.#name} ${this.#n}`,
      common_name,
      sans: [common_name, "10.0.0.1"],
      target_ids: [this.#fleet.targetId],
      ...this.#fleet.record,
      ...more,
    });
    return { id: String(id), common_name };
  }

  async read(id: string) {
    return (await this.#fleet.admin.get(`/api/v1/certificates/${id}`)).body;
  }

  async job(id: string) {
    return (await this.#fleet.admin.get(`/api/v1/jobs/${id}`)).body;
  }

  /** Asks for a renewal, which must be accepted. */
  async trigger(id: string, query = "") {
    const path = `/api/v1/certificates/${id}/renew${query}`;
    const answer = await this.#fleet.admin.post<{ job_id: string; job_ids: string[] }>(path);
    expect(answer.status, JSON.stringify(answer.body)).toBe(202);
    return answer.body;
  }

  /** The agent sends a CSR; `body` names its job or certificate. */
  submit(body: Record<string, unknown>) {
    return this.#fleet.agent.post(`/api/v1/agents/${this.#fleet.agentId}/csr`, body);
  }

  /** A job of the record and a CSR that is signed. */
  async issue(record: TestRecord) {
    const { job_id } = await this.trigger(record.id);
    const csr_pem = await makeCsr({ commonName: record.common_name });
    const answer = await this.submit({ csr_pem, job_id });
    expect(answer.status, JSON.stringify(answer.body)).toBe(202);
    return { job_id, csr_pem, version_id: String(answer.body.version_id) };
  }

  revoke(id: string, reason: string) {
    return this.#fleet.admin.post(`/api/v1/certificates/${id}/revoke`, { reason });
  }
}
