/**
 * The `hub` dialect: what the backend speaks as it ships today, at /agent/ws. The same as hub.schema.json.
 *
 * One JSON object in each text frame. The agent sends no field beyond these, and no frame above 4.5 MiB.
 */

import type { Failure, Success } from "./ticket";

export type FromAgent = Auth | Register | Ping | JobAck | JobProgress | JobResult;
export type FromBackend = AuthOk | AuthError | Registered | Pong | Job | JobComplete | JobResume | HubShutdown;

/** The first frame, within 10 s, and the only one that holds the token. */
export interface Auth {
  type: "auth";
  token: string;
}

/** After `auth_ok`, after each `job_result`, and whenever the agent's abilities change. */
export interface Register {
  type: "register";
  /** Slugs. Empty while no CLI can run, and while the agent stops. Never absent. */
  repos: string[];
  /** Which of `claude`, `git`, `npm`, `gh` and the configured CLI are on PATH. */
  capabilities: string[];
}

/** Ten seconds after connecting, then every 30 s. The hub forgets an agent after 90 s without a ping. */
export interface Ping {
  type: "ping";
}

/** The job is accepted and on the agent's disk. Never after its `job_result`. */
export interface JobAck {
  type: "job_ack";
  jobId: string;
}

/** For a run longer than PROGRESS_SECONDS (10 s), at most once in that time. */
export interface JobProgress {
  type: "job_progress";
  jobId: string;
  /** For people. */
  message: string;
  /** 5 to 95. Never falls within a run. */
  percent: number;
  /** What the CLI did or printed since the last report: the newest lines, at most 16 KiB in all. */
  logs: string[];
}

/** How the job ended. Sent again only until `job_complete` or the Pong to the Ping after it. */
export type JobResult = JobDone | JobFailed;

export interface JobDone {
  type: "job_result";
  jobId: string;
  status: "done";
  data: Success;
}

export interface JobFailed {
  type: "job_result";
  jobId: string;
  status: "failed";
  /** The hub stores nothing of it but `error`. */
  data: Failure;
}

export interface AuthOk {
  type: "auth_ok";
  /** Unused. */
  agentId: string;
  /** Unused. */
  tenantId: string;
}

/** A token that is invalid, revoked or expired ends the agent; after any other message it connects again. */
export interface AuthError {
  type: "auth_error";
  message: string;
}

export interface Registered {
  type: "registered";
  /** The number of repositories. */
  repos: number;
}

export interface Pong {
  type: "pong";
}

/** Work: at most 3 jobs at once for an agent, and again after 5 min without a `job_ack`. */
export interface Job {
  type: "job";
  /** 1 to 128 of `A-Z a-z 0-9 . _ : -`. */
  jobId: string;
  /** `implement_prd`, `review_pr`, `run_tests`; for any other, `payload.prompt` is the task. */
  action: string;
  payload: JobPayload;
}

/** The repository is `targetRepo`, else `repoOwner`/`repoName`. null means the same as an absent field. */
export interface JobPayload {
  /** `owner/name`. */
  targetRepo?: string | null;
  repoOwner?: string | null;
  repoName?: string | null;
  /** `implement_prd`: where the work is done and pushed. 1 to 200 of `A-Z a-z 0-9 . _ / -`. */
  branch?: string | null;
  title?: string | null;
  /** The task of `implement_prd`. At most 512,000 bytes of UTF-8; not blank. */
  prdContent?: string | null;
  prUrl?: string | null;
  prNumber?: number | null;
  /** The task of any other action; not blank. */
  prompt?: string | null;
}

/** The `job_result` is stored. */
export interface JobComplete {
  type: "job_complete";
  jobId: string;
}

/** Known to the hub, which never sends it; ignored. */
export interface JobResume {
  type: "job_resume";
  jobId: string;
  payload: object;
}

/** The agent closes and comes back after that time and a little more. Its runs go on. */
export interface HubShutdown {
  type: "server_shutdown";
  /** Seconds; more than 3600 counts as 3600. */
  reconnectAfter: number;
}
