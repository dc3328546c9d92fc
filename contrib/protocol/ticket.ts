/**
 * The `ticket` dialect: the documented protocol, at /api/agents/ws. The same as ticket.schema.json.
 *
 * One JSON object in each text frame. The agent sends no field beyond these, and ignores unknown types and
 * fields of the backend. No frame either way has more than 5 MiB; the agent sends none above 4.5 MiB.
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
  /** The roles that it takes now, in the short form. Empty while no CLI can run, and while the agent stops. */
  roles: string[];
  /** Canonical, absolute folders of its machine. */
  repoPaths: string[];
  /** One for each of `repoPaths`. */
  repos: Repo[];
  cli: Cli;
  capacity: Capacity;
  /** The tickets that are claimed and have not ended. They still belong to this agent. */
  activeTickets: ActiveTicket[];
  platform: Platform;
}

export interface Repo {
  /** As in `repoPaths`. */
  path: string;
  /** `owner/name`, or `group/subgroup/name`; null if neither REPO_PATHS nor `origin` tells it. */
  slug: string | null;
}

export interface Cli {
  /** `claude-code`, `codex`, `cursor`, …; the program's name for an unknown CLI. */
  name: string;
  /** null until it is known, and for an unknown CLI. */
  version: string | null;
  /** Whether a run could start now. */
  available: boolean;
  /** null while it is available. */
  unavailableReason: "not_found" | "quota_exceeded" | null;
  /** When the quota is back; null if that is not the reason, or if the CLI did not say. */
  availableAt: Time | null;
}

export interface Capacity {
  /** Runs at once, 1 to 64. */
  max: number;
  /** Idle ones; 0 while the agent stops. */
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
  /** `draining`: the agent stops; `degraded`: no CLI can run. */
  status: "ready" | "draining" | "degraded";
}

/** The ticket is accepted and on the agent's disk; before anything is downloaded or run. */
export interface TicketClaim {
  type: "ticket.claim";
  agentId: string;
  ticketId: string;
  /** As assigned. */
  attempt: number;
  at: Time;
}

/** For a run longer than PROGRESS_SECONDS (10 s), at most once in that time. Never sent twice. */
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
  /** What the CLI did or printed since the last report: the newest lines, at most 16 KiB in all. */
  lines: string[];
}

/** The CLI ended with exit code 0. */
export interface TicketResult extends Success {
  type: "ticket.result";
  agentId: string;
  ticketId: string;
  attempt: number;
}

/** Any other end. Without a claim before it, it is a refusal. */
export type TicketFail = Failure & {
  type: "ticket.fail";
  agentId: string;
  ticketId: string;
  attempt: number;
};

export interface Success extends Run {
  exitCode: 0;
  /** For people, one line each, such as a skill that could not be downloaded. At most 51. */
  warnings: string[];
  /** The pull request for work on a branch; absent if none was opened. */
  prUrl?: string;
}

/** Has all fields of `Run`, or none: then the ticket never started, or left nothing. */
export type Failure = (Run | { [Field in keyof Run]?: never }) & {
  code: FailCode;
  /** One line for people, at most 2001 characters; with `cli_exit` the CLI's own error. */
  error: string;
  /** null if no process ended by itself; 0 if only the CLI's output shows the failure. */
  exitCode: number | null;
  /** The number of the signal that ended the CLI, else null. */
  signal: number | null;
  /** Whether another agent, or this one later, may succeed. It follows from `code`. */
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

/** The fields of a ticket whose run was started. */
export interface Run {
  /**
   * The final message of a known CLI, or all that an unknown CLI printed. Invalid UTF-8 is replaced. At most
   * MAX_STDOUT_BYTES (1 MiB).
   */
  stdout: string;
  /** A line between its beginning and its end says how many bytes are missing. */
  stdoutTruncated: boolean;
  /** `git diff --binary --full-index`; null without git, or if it was left out. Never cut. */
  diff: string | null;
  /** The diff was left out because of its size: above MAX_DIFF_BYTES (3 MiB), or too much for the frame. */
  diffTruncated: boolean;
  /** Also given for a diff that was left out; null if no diff could be taken. */
  diffStat: DiffStat | null;
  /** HEAD before the run, 40 or 64 hexadecimal digits; null without one. */
  baseCommit: string | null;
  /** HEAD after the run; null without one. */
  headCommit: string | null;
  startedAt: Time;
  finishedAt: Time;
  /** Milliseconds, downloads and diff included. */
  durationMs: number;
  /** Absent if the CLI reports none of it. */
  usage?: Usage;
}

export interface DiffStat {
  files: number;
  /** Lines. */
  insertions: number;
  /** Lines. */
  deletions: number;
}

/** As the CLI counts; null for what it does not report. */
export interface Usage {
  inputTokens: number | null;
  outputTokens: number | null;
  /** Absent if the CLI does not report it. */
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
  /** Counts the assignments of the ticket, from 1. Absent: 1. */
  attempt?: number | null;
  /** `dev`, `qa`, …; `dev_agent` is the same as `dev`. */
  role: string;
  /** A slug (`acme/app`), or an absolute path on its machine. */
  repo: string;
  /** At least 1. The role's own limit counts if it is shorter, or if this is absent. */
  timeoutSeconds?: number | null;
  /** Where the rest of the brief is, at the API URL's origin. Fields of the assignment win over it. */
  payloadUrl?: string | null;
}

/** The task: in the assignment, or as the data of its download. */
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

/** Ends the run; the answer is `ticket.fail` with `cancelled`. Ignored for an unknown ticket. */
export interface TicketCancel {
  type: "ticket.cancel";
  ticketId: string;
  /** For the agent's log. */
  reason?: string | null;
}

/** The outcome is stored. Optional, because the Pong to the Ping after it proves the same. */
export interface TicketAck {
  type: "ticket.ack";
  ticketId: string;
  /** Absent: any attempt. */
  attempt?: number | null;
}

/** The agent closes and comes back after that time and a little more. Its runs go on. */
export interface ServerShutdown {
  type: "server.shutdown";
  /** More than 3600 counts as 3600. */
  reconnectAfterSeconds: number;
}
