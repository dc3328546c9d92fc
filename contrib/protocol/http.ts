/**
 * What the `ticket` dialect downloads, with the token as bearer: JSON of at most 5 MiB, within 8 s. The same as
 * http.schema.json.
 */

import type { Brief } from "./ticket";

/** GET /api/tickets/<ticketId>, or the assignment's `payloadUrl`. */
export type PayloadAnswer = PayloadFound | NotFound;

/** GET /api/library/skills/<slug>. */
export type SkillAnswer = SkillFound | NotFound;

/** With a status of 2xx. */
export interface PayloadFound {
  success: true;
  data: Brief;
}

/** With a status of 2xx. */
export interface SkillFound {
  success: true;
  data: SkillData;
}

/** One of the two; `body` wins. */
export interface SkillData {
  body?: string | null;
  content?: string | null;
}

/** Without its payload a ticket fails with `payload_unavailable`; a missing skill is a warning. */
export interface NotFound {
  success: false;
  error: ApiError;
}

export interface ApiError {
  code: string;
  /** Quoted in the ticket's error or warning. */
  message: string;
}
