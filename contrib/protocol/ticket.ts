/**
 * The `ticket` dialect: the documented protocol, at /api/agents/ws. The same as ticket.schema.json.
 *
 * One JSON object in each text frame. The agent sends no field beyond these, and ignores unknown types and fields in
 * what it is sent. No frame either way has more than 5 MiB; the agent sends none above 4.5 MiB.
 */

export type FromAgent = AgentRegister | AgentHeartbeat | TicketClaim | TicketProgress | TicketResult | TicketFail;
export type FromBackend = TicketAssigned | TicketCancel | TicketAck | ServerShutdown;

/** RFC 3339, UTC, milliseconds: `2026-01-02T03:04:05.678Z`. */
export type Time = string;

/** The first frame on a connection, and again whenever its roles or its CLI change. */
export interface AgentRegister {
  type: "agent.register";
  /** A UUID that the agent makes once and keeps in its state folder. */
  agentId: string;
  protocolVersion: 1;
  /** AGENT_NAME, else the host name. */
  name: string;
  /** The agent's own version. */
  version: string;
  /** What it can claim now, in the short form; empty while it can run nothing, or is about to stop. */
  roles: string[];
  /** Canonical, absolute folders of its machine. */
  repoPaths: string[];
  /** One for each of `repoPaths`. */
  repos: Repo[];
  cli: Cli;
  capacity: Capacity;
  /** Claimed and not ended: they are still this agent's. */
  activeTickets: ActiveTicket[];
  platform: Platform;
}

export interface Repo {
  /** As in `repoPaths`. */
  path: string;
  /** `owner/name`, groups within groups included; null where neither REPO_PATHS nor `origin` tells. */
  slug: string | null;
}

export interface Cli {
  /** `claude-code`, `codex`, `cursor`, …; of a CLI that is not known, its program's name. */
  name: string;
  /** null until it has been asked, and of a CLI that is not known. */
  version: string | null;
  /** Whether a run could start now. */
  available: boolean;
  /** null while it is available. */
  unavailableReason: "not_found" | "quota_exceeded" | null;
  /** When the quota is back; null where that is not the reason, or the CLI did not say. */
  availableAt: Time | null;
}

export interface Capacity {
  /** Runs at once, 1 to 64. */
  max: number;
  /** Of these; 0 while the agent is about to stop. */
  free: number;
}

export interface ActiveTicket {
  ticketId: string;
  attempt: number;
  /** When it was claimed. */
  startedAt: Time;
}

export interface Platform {
  /** `linux`, `macos`, `windows`. */
  os: string;
  /** `x86_64`, `aarch64`, …. */
  arch: string;
}

/** Every 10 s while connected, and at once when the agent begins to drain or its machine has slept. */
export interface AgentHeartbeat {
  type: "agent.heartbeat";
  agentId: string;
  at: Time;
  /** The ids of tickets that are claimed and not ended. */
  activeTickets: string[];
  capacity: Capacity;
  /** `draining`: about to stop, takes nothing; `degraded`: no CLI could run. */
  status: "ready" | "draining" | "degraded";
}

/** The ticket is accepted and on the agent's disk; before anything is downloaded or run. */
export interface TicketClaim {
  type: "ticket.claim";
  agentId: string;
  ticketId: string;
  /** As it was assigned. */
  attempt: number;
  at: Time;
}

/** Of a run longer than PROGRESS_SECONDS (10 s), at most once in that time. Never sent twice. */
export interface TicketProgress {
  type: "ticket.progress";
  agentId: string;
  ticketId: string;
  attempt: number;
  /** 1, 2, … within a run. */
  seq: number;
  /** Milliseconds since the run began. */
  elapsedMs: number;
  phase: "preparing" | "running" | "collecting";
  /** Printed by the CLI so far. */
  stdoutBytes: number;
  /** New since the last report: what the CLI does, or prints. At most 16 KiB in all, the newest. */
  lines: string[];
}

/** The CLI ended with exit code 0. */
export interface TicketResult extends Success {
  type: "ticket.result";
  agentId: string;
  ticketId: string;
  attempt: number;
}

/** Every other end. Without a claim before it, it is a refusal. */
export type TicketFail = Failure & {
  type: "ticket.fail";
  agentId: string;
  ticketId: string;
  attempt: number;
};

export interface Success extends Run {
  exitCode: 0;
  /** For people, one line each, such as a skill that could not be had. At most 51. */
  warnings: string[];
  /** The pull request of work on a branch; absent where none was opened. */
  prUrl?: string;
}

/** With all of `Run`, or with nothing of it: the ticket never started, or left nothing to tell. */
export type Failure = (Run | { [Field in keyof Run]?: never }) & {
  code: FailCode;
  /** One line for people, at most 2001 characters; of `cli_exit` the CLI's own error. */
  error: string;
  /** null where no process ended by itself; 0 where only the CLI's output tells of the failure. */
  exitCode: number | null;
  /** The number of the signal that ended the CLI, else null. */
  signal: number | null;
  /** Whether a further attempt makes sense, elsewhere or later. It follows from `code`. */
  retryable: boolean;
  /** For people, one line each. At most 51. */
  warnings: string[];
};

export type FailCode =
  // Not retryable.
  | "timeout"
  | "cli_exit"
  | "invalid_ticket"
  | "cancelled"
  // Retryable.
  | "cli_not_found"
  | "spawn_failed"
  | "quota_exceeded"
  | "repo_not_allowed"
  | "role_not_allowed"
  | "at_capacity"
  | "payload_unavailable"
  | "rejected"
  | "agent_shutdown"
  | "agent_restarted"
  | "internal";

/** What is known of a ticket that was started. */
export interface Run {
  /** What the CLI said in the end, or printed; invalid UTF-8 is replaced. At most MAX_STDOUT_BYTES (1 MiB). */
  stdout: string;
  /** A line between its beginning and its end says how many bytes are missing. */
  stdoutTruncated: boolean;
  /** `git diff --binary --full-index`; null without git, or where it was left out. Never cut. */
  diff: string | null;
  /** The diff was left out for its size: above MAX_DIFF_BYTES (3 MiB), or too much for the frame. */
  diffTruncated: boolean;
  /** Also of a diff that was left out for its size; null where none could be taken. */
  diffStat: DiffStat | null;
  /** HEAD before the run, 40 or 64 hexadecimal digits; null without one. */
  baseCommit: string | null;
  /** HEAD after the run; null without one. */
  headCommit: string | null;
  startedAt: Time;
  finishedAt: Time;
  /** Milliseconds, downloads and diff included. */
  durationMs: number;
  /** Absent where the CLI does not tell any of it. */
  usage?: Usage;
}

export interface DiffStat {
  files: number;
  /** Lines. */
  insertions: number;
  /** Lines. */
  deletions: number;
}

/** As the CLI itself counts; null where it does not tell that one. */
export interface Usage {
  inputTokens: number | null;
  outputTokens: number | null;
  /** Absent where it does not tell. */
  cacheReadTokens?: number;
  /** US dollars. */
  costUsd: number | null;
  turns: number | null;
  sessionId: string | null;
}

/** Work. With neither `title` nor `description`, they are downloaded: `payloadUrl`, else /api/tickets/<ticketId>. */
export interface TicketAssigned extends Brief {
  type: "ticket.assigned";
  /** 1 to 128 of `A-Z a-z 0-9 . _ : -`. */
  ticketId: string;
  /** Counts how often it was given out, from 1; absent: 1. */
  attempt?: number | null;
  /** `dev`, `qa`, …; `dev_agent` is the same as `dev`. */
  role: string;
  /** A slug (`acme/app`), or an absolute path on its machine. */
  repo: string;
  /** At least 1. The role's own limit counts where it is shorter, or where this is absent. */
  timeoutSeconds?: number | null;
  /** Where the rest of the brief is, at the API URL's origin; what stands here counts first. */
  payloadUrl?: string | null;
}

/** What is to be done: with the assignment, or as the data of its download. */
export interface Brief {
  title?: string | null;
  description?: string | null;
  /** A slug alone, of 1 to 256 bytes, is downloaded. At most 64 are used. */
  skills?: (string | Skill)[] | null;
  subagent?: Subagent | null;
}

export interface Skill {
  slug: string;
  /** Absent: it is downloaded. */
  body?: string | null;
}

export interface Subagent {
  slug: string;
  /** Stands before the description in the CLI's prompt. */
  prompt: string;
}

/** The run is ended and answered by `ticket.fail`, `cancelled`. Of an unknown ticket: ignored. */
export interface TicketCancel {
  type: "ticket.cancel";
  ticketId: string;
  /** For the agent's log. */
  reason?: string | null;
}

/** The outcome is stored. Optional: the Pong to the Ping after it says as much. */
export interface TicketAck {
  type: "ticket.ack";
  ticketId: string;
  /** Absent: of any attempt. */
  attempt?: number | null;
}

/** The agent closes and comes back after that time and a little more. Its runs go on. */
export interface ServerShutdown {
  type: "server.shutdown";
  /** More than 3600 count as 3600. */
  reconnectAfterSeconds: number;
}
