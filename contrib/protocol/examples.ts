/**
 * Example frames, one at least of each type; how a backend tells them apart; and what the types refuse.
 *
 * Each list of examples is JSON as it stands: the agent's own tests read it from here and hold it against the schemas,
 * so no comment, no trailing comma and no expression may stand in one.
 */

import type * as http from "./http";
import type * as hub from "./hub";
import type * as ticket from "./ticket";

export const ticketFromAgent: ticket.FromAgent[] = [
  {
    "type": "agent.register",
    "agentId": "5f3c1d9e-6f0b-4c1a-9d2e-0b6a4f1c2d3e",
    "protocolVersion": 1,
    "name": "build-server-2",
    "version": "0.1.0",
    "roles": ["dev", "qa"],
    "repoPaths": ["/srv/projects/app", "/srv/projects/notes"],
    "repos": [
      { "path": "/srv/projects/app", "slug": "acme/app" },
      { "path": "/srv/projects/notes", "slug": null }
    ],
    "cli": {
      "name": "claude-code",
      "version": "2.1.197",
      "available": true,
      "unavailableReason": null,
      "availableAt": null
    },
    "capacity": { "max": 2, "free": 1 },
    "activeTickets": [{ "ticketId": "TEAM-41", "attempt": 1, "startedAt": "2026-01-02T03:04:05.678Z" }],
    "platform": { "os": "linux", "arch": "x86_64" }
  },
  {
    "type": "agent.register",
    "agentId": "5f3c1d9e-6f0b-4c1a-9d2e-0b6a4f1c2d3e",
    "protocolVersion": 1,
    "name": "build-server-2",
    "version": "0.1.0",
    "roles": [],
    "repoPaths": ["/srv/projects/app"],
    "repos": [{ "path": "/srv/projects/app", "slug": "acme/app" }],
    "cli": {
      "name": "claude-code",
      "version": "2.1.197",
      "available": false,
      "unavailableReason": "quota_exceeded",
      "availableAt": "2026-01-02T08:00:00.000Z"
    },
    "capacity": { "max": 2, "free": 2 },
    "activeTickets": [],
    "platform": { "os": "linux", "arch": "x86_64" }
  },
  {
    "type": "agent.heartbeat",
    "agentId": "5f3c1d9e-6f0b-4c1a-9d2e-0b6a4f1c2d3e",
    "at": "2026-01-02T03:04:15.678Z",
    "activeTickets": ["TEAM-41"],
    "capacity": { "max": 2, "free": 1 },
    "status": "ready"
  },
  {
    "type": "ticket.claim",
    "agentId": "5f3c1d9e-6f0b-4c1a-9d2e-0b6a4f1c2d3e",
    "ticketId": "TEAM-42",
    "attempt": 1,
    "at": "2026-01-02T03:04:16.000Z"
  },
  {
    "type": "ticket.progress",
    "agentId": "5f3c1d9e-6f0b-4c1a-9d2e-0b6a4f1c2d3e",
    "ticketId": "TEAM-42",
    "attempt": 1,
    "seq": 1,
    "elapsedMs": 10004,
    "phase": "running",
    "stdoutBytes": 5120,
    "lines": ["Read src/lib.rs", "Edit src/lib.rs"]
  },
  {
    "type": "ticket.result",
    "agentId": "5f3c1d9e-6f0b-4c1a-9d2e-0b6a4f1c2d3e",
    "ticketId": "TEAM-42",
    "attempt": 1,
    "exitCode": 0,
    "stdout": "The button is blue.\n",
    "stdoutTruncated": false,
    "diff": "diff --git a/style.css b/style.css\n--- a/style.css\n+++ b/style.css\n@@ -1 +1 @@\n-red\n+blue\n",
    "diffTruncated": false,
    "diffStat": { "files": 1, "insertions": 1, "deletions": 1 },
    "baseCommit": "c3c1d0a7a5c5f1a0a4f36bd3a1b8a1b6b8f6a001",
    "headCommit": "c3c1d0a7a5c5f1a0a4f36bd3a1b8a1b6b8f6a001",
    "startedAt": "2026-01-02T03:04:16.010Z",
    "finishedAt": "2026-01-02T03:05:46.260Z",
    "durationMs": 90250,
    "usage": {
      "inputTokens": 5210,
      "outputTokens": 812,
      "cacheReadTokens": 40960,
      "costUsd": 0.0421,
      "turns": 6,
      "sessionId": "0c9a3f0e-2f57-4f6e-8f0b-7f1d8f7d2a10"
    },
    "warnings": []
  },
  {
    "type": "ticket.fail",
    "agentId": "5f3c1d9e-6f0b-4c1a-9d2e-0b6a4f1c2d3e",
    "ticketId": "TEAM-43",
    "attempt": 2,
    "exitCode": 1,
    "code": "cli_exit",
    "error": "error: test failed, to rerun pass `--lib`",
    "signal": null,
    "retryable": false,
    "stdout": "running 3 tests\n",
    "stdoutTruncated": false,
    "diff": null,
    "diffTruncated": true,
    "diffStat": { "files": 912, "insertions": 120034, "deletions": 7 },
    "baseCommit": null,
    "headCommit": null,
    "startedAt": "2026-01-02T03:04:16.010Z",
    "finishedAt": "2026-01-02T03:04:18.020Z",
    "durationMs": 2010,
    "warnings": ["the skill \"rust\" could not be had: 404 Not Found: not_found no such skill"]
  },
  {
    "type": "ticket.fail",
    "agentId": "5f3c1d9e-6f0b-4c1a-9d2e-0b6a4f1c2d3e",
    "ticketId": "TEAM-44",
    "attempt": 1,
    "exitCode": null,
    "code": "repo_not_allowed",
    "error": "acme/secret is not among this agent's REPO_PATHS",
    "signal": null,
    "retryable": true,
    "warnings": []
  }
];

export const ticketFromBackend: ticket.FromBackend[] = [
  {
    "type": "ticket.assigned",
    "ticketId": "TEAM-42",
    "attempt": 1,
    "role": "dev",
    "repo": "acme/app",
    "title": "A blue button",
    "description": "Make the button on the first page blue.",
    "skills": ["css", { "slug": "house-style", "body": "Write short sentences." }],
    "subagent": { "slug": "designer", "prompt": "You know colours." },
    "timeoutSeconds": 900
  },
  {
    "type": "ticket.assigned",
    "ticketId": "TEAM-45",
    "role": "qa_agent",
    "repo": "/srv/projects/app",
    "payloadUrl": "https://workforce0.example.com/api/tickets/TEAM-45?part=brief"
  },
  { "type": "ticket.cancel", "ticketId": "TEAM-42", "reason": "withdrawn by its author" },
  { "type": "ticket.ack", "ticketId": "TEAM-42", "attempt": 1 },
  { "type": "server.shutdown", "reconnectAfterSeconds": 30 }
];

export const hubFromAgent: hub.FromAgent[] = [
  { "type": "auth", "token": "wfa_0000000000" },
  { "type": "register", "repos": ["acme/app"], "capabilities": ["claude", "gh", "git", "npm"] },
  { "type": "ping" },
  { "type": "job_ack", "jobId": "J-1" },
  {
    "type": "job_progress",
    "jobId": "J-1",
    "message": "running, 70 s, 5120 bytes of output",
    "percent": 18,
    "logs": ["Edit src/lib.rs"]
  },
  {
    "type": "job_result",
    "jobId": "J-1",
    "status": "done",
    "data": {
      "exitCode": 0,
      "stdout": "The button is blue.\n",
      "stdoutTruncated": false,
      "diff": null,
      "diffTruncated": false,
      "diffStat": null,
      "baseCommit": null,
      "headCommit": null,
      "startedAt": "2026-01-02T03:04:16.010Z",
      "finishedAt": "2026-01-02T03:05:46.260Z",
      "durationMs": 90250,
      "warnings": ["no diff: the folder is not in a git repository"],
      "prUrl": "https://git.example.com/acme/app/pull/7"
    }
  },
  {
    "type": "job_result",
    "jobId": "J-2",
    "status": "failed",
    "data": {
      "exitCode": null,
      "code": "repo_not_allowed",
      "error": "acme/secret is not among this agent's REPO_PATHS",
      "signal": null,
      "retryable": true,
      "warnings": []
    }
  }
];

export const hubFromBackend: hub.FromBackend[] = [
  { "type": "auth_ok", "agentId": "agent-1", "tenantId": "tenant-1" },
  { "type": "auth_error", "message": "Invalid or revoked token" },
  { "type": "registered", "repos": 1 },
  { "type": "pong" },
  {
    "type": "job",
    "jobId": "J-1",
    "action": "implement_prd",
    "payload": {
      "targetRepo": "acme/app",
      "branch": "feature/blue-button",
      "title": "A blue button",
      "prdContent": "Make the button on the first page blue."
    }
  },
  {
    "type": "job",
    "jobId": "J-2",
    "action": "review_pr",
    "payload": {
      "repoOwner": "acme",
      "repoName": "app",
      "prNumber": 7,
      "prUrl": "https://git.example.com/acme/app/pull/7"
    }
  },
  { "type": "job", "jobId": "J-3", "action": "run_tests", "payload": { "targetRepo": "acme/app" } },
  { "type": "job", "jobId": "J-4", "action": "tidy", "payload": { "targetRepo": "acme/app", "prompt": "Sweep." } },
  { "type": "job_complete", "jobId": "J-1" },
  { "type": "job_resume", "jobId": "J-1", "payload": {} },
  { "type": "server_shutdown", "reconnectAfter": 5 }
];

export const payloadAnswers: http.PayloadAnswer[] = [
  { "success": true, "data": { "title": "A blue button", "skills": ["css"], "subagent": null } },
  { "success": false, "error": { "code": "not_found", "message": "there is no such ticket" } }
];

export const skillAnswers: http.SkillAnswer[] = [
  { "success": true, "data": { "body": "Colours are named, never numbers." } },
  { "success": true, "data": { "content": "Colours are named, never numbers." } },
  { "success": false, "error": { "code": "not_found", "message": "there is no such skill" } }
];

/** The type field tells the frames apart: each case knows its fields, and a missing case does not compile. */
export function answerTo(frame: ticket.FromAgent): ticket.FromBackend | undefined {
  switch (frame.type) {
    case "agent.register":
    case "agent.heartbeat":
    case "ticket.claim":
    case "ticket.progress":
      return undefined;
    case "ticket.result":
    case "ticket.fail":
      return { type: "ticket.ack", ticketId: frame.ticketId, attempt: frame.attempt };
  }
}

/** A failed ticket that was started has all of `Run`; one that was not has nothing of it. */
export function printed(fail: ticket.TicketFail): string {
  return fail.startedAt === undefined ? fail.error : fail.stdout;
}

/** What the types refuse: each of these lines is an error, or the one above it is. */
export const refused: (ticket.FromBackend | hub.FromBackend)[] = [
  // @ts-expect-error No such type.
  { type: "ticket.assign", ticketId: "T-1" },
  // @ts-expect-error A required field is missing.
  { type: "ticket.assigned", ticketId: "T-1", role: "dev" },
  // @ts-expect-error A number, not words.
  { type: "server.shutdown", reconnectAfterSeconds: "soon" },
  // @ts-expect-error A field of another message.
  { type: "ticket.ack", ticketId: "T-1", reason: "stored" },
  // @ts-expect-error A job has a payload.
  { type: "job", jobId: "J-1", action: "run_tests" },
];
const why = { code: "timeout", error: "timeout", retryable: false } as const;
export const refusal: ticket.Failure = { ...why, exitCode: null, signal: null, warnings: [] };
// @ts-expect-error All of a run or nothing of it.
export const half: ticket.Failure = { ...why, exitCode: null, signal: null, warnings: [], stdout: "" };
