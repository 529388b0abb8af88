/** Live orders in a browser or in Node. The comments in tracking-live.js say more about each name. */

/** Several values of one member mean any of them. */
export interface Filter {
  merchant_id?: string[];
  order_id?: string[];
  status?: string[];
  /** Without `active`, `status` and `order_id`: true. */
  active?: boolean | null;
  overdue?: boolean | null;
}

export interface Customer {
  name: string;
  contact_ref: string;
}

export interface Source {
  type: string;
  /** Only for tokens that may see it. */
  id?: string;
}

/** JSON of any kind. */
export type Metadata = Record<string, unknown>;

/** An order, as the HTTP API shows it. */
export interface Order {
  order_id: string;
  merchant_id: string;
  /** The merchant's own number of the order. */
  reference: string | null;
  /** Only for tokens that may see it. `null`: erased. */
  customer?: Customer | null;
  /** The time when the customer was erased. */
  erased_at?: string;
  status: string;
  version: number;
  active: boolean;
  created_at: string;
  updated_at: string;
  due_at: string | null;
  eta: string | null;
  /** True while it is active and `due_at` has passed. */
  overdue: boolean;
  source: Source;
  metadata: Metadata;
  allowed_next: string[];
}

/** The order after an event, and the change. */
export interface EventData {
  order_id: string;
  merchant_id: string;
  reference?: string | null;
  version: number;
  status: string;
  previous_status: string | null;
  active: boolean;
  allowed_next: string[];
  update_id: string;
  occurred_at: string | null;
  received_at: string;
  recorded_at: string;
  created_at: string;
  due_at?: string | null;
  eta?: string | null;
  overdue?: boolean;
  previous_overdue?: boolean;
  source: Source;
  /** Of this change alone. */
  metadata: Metadata;
  /** Of all changes of the order together. */
  order_metadata: Metadata;
  customer?: Customer | null;
  erased_at?: string;
  /** Of a checkpoint. */
  kind?: string;
  /** Of a checkpoint that has one. */
  message?: string;
  /** Of a correction. */
  reason?: string;
}

/** A CloudEvent 1.0. */
export interface OrderEvent {
  specversion: "1.0";
  /** `<order id>:<version>` */
  id: string;
  source: string;
  /** `order.created`, `order.status_changed` and others. More may follow: the order is in `data` whatever the type. */
  type: string;
  /** The order id. */
  subject: string;
  time: string;
  datacontenttype?: string;
  sequence: string;
  partition: number;
  traceparent?: string;
  data: EventData;
}

/** A problem document (RFC 9457). Some types have members of their own. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail?: string;
  instance?: string;
  trace_id?: string;
  errors?: { pointer: string; message: string }[];
  [member: string]: unknown;
}

export type Transport = "websocket" | "event-stream";

export type State = "stopped" | "connecting" | "catching-up" | "live" | "waiting" | "refused";

/** The state of a client, and the reason for it. */
export interface Status {
  state: State;
  /** For people: why it waits or was refused. */
  reason: string;
  /** The close code, if the server closed with one. */
  code?: number;
  /** The time of the next attempt, while it waits. */
  retryAt?: Date;
  /** The document that the server sent before its close. */
  problem?: Problem;
  /** Of this connection or attempt, or of the last one. */
  transport: Transport;
}

export interface Snapshot {
  /** The reason of a resync; `null`: the client asked for the snapshot. */
  reason: string | null;
}

export interface Gap {
  order_id: string;
  /** The version before the gap; `null`: the order was missing in `orders`. */
  after: number | null;
  version: number;
}

/** A token, or a function that returns a valid one. If it throws, it is called again later. */
export type Token = string | (() => string | Promise<string>);

export interface Position {
  /** A cursor to continue after. */
  after?: string | null;
  /** False: only events from now on. */
  snapshot?: boolean;
}

export interface LiveOrdersOptions extends Position {
  filter?: Filter;
  /** A connection that received nothing for this time is replaced. */
  silenceSeconds?: number;
  /** `auto`, the default: WebSockets, or server-sent events where they do not get through. */
  transport?: "auto" | Transport;
}

/** The events of `LiveOrders`, by name. */
export interface LiveOrdersEventMap {
  change: CustomEvent<null>;
  events: CustomEvent<OrderEvent[]>;
  snapshot: CustomEvent<Snapshot>;
  status: CustomEvent<Status>;
  problem: CustomEvent<Problem>;
  gap: CustomEvent<Gap>;
}

/** The orders that match a filter, kept current across reconnects. */
export class LiveOrders extends EventTarget {
  constructor(url: string | URL, token: Token, options?: LiveOrdersOptions);
  /** By order id. To be read only. A snapshot replaces the whole map. */
  readonly orders: Map<string, Order>;
  /** The position of `orders`. `null` while a snapshot arrives. */
  readonly cursor: string | null;
  /** The number of times that versions were missing; anything but 0 is a fault of the server. */
  readonly gaps: number;
  readonly status: Status;
  /** Of this connection or attempt, or of the last one. */
  readonly transport: Transport;
  /** The number of connections so far. */
  connections: number;
  /** Connects, and reconnects until `stop()` or until the server refuses permanently. */
  start(): void;
  /** Ends the connection. `orders` is kept, and `start()` continues from there. */
  stop(): void;
  /** Replaces the connection, or ends the wait for the next attempt. No event is missed. */
  reconnect(reason?: string): void;
  addEventListener<Name extends keyof LiveOrdersEventMap>(
    type: Name,
    listener: ((event: LiveOrdersEventMap[Name]) => void) | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    callback: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** The orders that match a filter, kept current by the messages of the server. It has no connection of its own. */
export class OrderView {
  constructor(filter: Filter, notify: (name: string, detail: object) => void, from?: Position);
  orders: Map<string, Order>;
  cursor: string | null;
  gaps: number;
  fromSnapshot: boolean;
  request(): { filter: Filter; after?: string; snapshot?: boolean };
  forget(reason?: string | null): void;
  take(message: object): OrderEvent[];
}

/** The server sent an invalid message, or one that the protocol does not allow at this point. */
export class GarbledMessage extends Error {}

/** After these close codes the same request would be refused again. */
export const FINAL_CLOSE_CODES: Set<number>;

/** The order after this event, as the HTTP API shows it. */
export function orderAfter(event: { data: EventData }): Order;

/** The wait after this number of failures (1 or more) in a row. */
export function waitSeconds(failures: number): number;

/** Seconds until a token should be replaced; `null`: it has no expiry, or has expired. */
export function refreshIn(token: string, again?: boolean): number | null;
