import { ApiError, bareCsr, type Fleet, type Json, requestCertificate, submitCsr } from "../support/client.ts";

/** What the server answered before it was killed: all of it must still be true afterwards. */
export interface History {
  /** By job: the CSR that was sent, and what was answered if an answer came. */
  readonly jobs: Map<string, { certificateId: string; csr: string; answer: Json | null }>;
  /** Certificates whose revocation was answered 200. */
  readonly revoked: Set<string>;
  /** Certificates whose revocation was asked for; an answer may not have come. */
  readonly revocationAsked: Set<string>;
  /** Names so far, so that no name is used twice. */
  names: number;
  /** CSRs and revocations that were answered. */
  answers: number;
}

export function newHistory(): History {
  return { jobs: new Map(), revoked: new Set(), revocationAsked: new Set(), names: 0, answers: 0 };
}

/**
 * Issues and revokes with `parallel` workers until the server dies, noting each answer as it comes. The CSR is noted before
 * it is sent, so that the same one can be sent again.
 */
export async function loadUntilDeath(
  fleet: Fleet,
  history: History,
  parallel: number,
  died: () => boolean,
): Promise<void> {
  const worker = async () => {
    while (!died()) {
      try {
        await issueAndPerhapsRevoke(fleet, history);
      } catch (error) {
        // A connection that broke is what this is about; an answer that says no is a fault.
        if (error instanceof ApiError) throw error;
        if (!died()) await new Promise((resolve) => setImmediate(resolve));
      }
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
}

async function issueAndPerhapsRevoke(fleet: Fleet, history: History): Promise<void> {
  const n = history.names++;
  const job = await requestCertificate(fleet, `c${n}.crash.example.com`);
  const entry: { certificateId: string; csr: string; answer: Json | null } = {
    certificateId: job.certificateId,
    csr: bareCsr(),
    answer: null,
  };
  history.jobs.set(job.jobId, entry);
  entry.answer = await submitCsr(fleet, job, entry.csr);
  history.answers++;
  if (n % 2 === 0) return;
  history.revocationAsked.add(job.certificateId);
  await fleet.admin.call("POST", `/api/v1/certificates/${job.certificateId}/revoke`, { reason: "superseded" });
  history.revoked.add(job.certificateId);
  history.answers++;
}
