// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// What the server answers (api.go has the counterpart), and how to ask it.

/**
 * @typedef {object} Reference
 * @property {number} id
 * @property {string} namespace
 * @property {string} name
 * @property {string} [cidr]
 */

/**
 * @typedef {object} State
 * @property {number} revision
 * @property {"reading"|"live"|"lost"|"forbidden"} phase
 * @property {string} [problem]
 * @property {number} prefixes
 * @property {number} allocations
 * @property {number} waiting
 * @property {string} cluster
 * @property {string} [scope]
 */

/**
 * @typedef {object} Row
 * @property {string} id
 * @property {string} namespace
 * @property {string} [name]
 * @property {string} [cidr]
 * @property {string} [asks]
 * @property {number} used
 * @property {number} children
 * @property {string} state
 * @property {number} level
 * @property {number} position
 * @property {number} size
 * @property {boolean} open
 * @property {boolean} match
 * @property {boolean} [alone]
 * @property {boolean} [closed]
 */

/** @typedef {{total: number, matches: number, from: number, shown: number, rows: Row[]}} Rows */

/** @typedef {{i: number, n?: string, u?: number, p?: boolean, m?: Cell, x?: boolean, d?: boolean}} Held */
/** @typedef {{c: number, u: number, x?: boolean, i?: number, n?: string, r?: string}} Summary */
/** @typedef {0|1|2|[Cell, Cell]|Held|Summary} Cell 0 is free, 1 is reserved, 2 cools down */

/** @typedef {{path: Reference[], block: string, leaf?: number, cells: Cell, waiting: {id: number, name: string, cidr: string}[]}} BlockMap */
/** @typedef {Reference & {used: number, parent: boolean, cells: Cell}} Tile */
/** @typedef {{more: number, tiles: Tile[]}} Overview */

/**
 * @typedef {object} NodeDetails
 * @property {string} kind
 * @property {Reference[]} path
 * @property {string} state
 * @property {string} [asks]
 * @property {string} [reason]
 * @property {string} [message]
 * @property {string} [owner]
 * @property {number} created
 * @property {string[]} labels
 * @property {number} children
 * @property {number} waiting
 * @property {number} used
 * @property {{total: string, used: string, free: string, reserved?: string, cooling?: string, allocations: number, largestFree?: string}} [usage]
 * @property {[number, number][]} history
 * @property {string[]} rules
 * @property {boolean} [closed]
 * @property {number} [min] the shortest length that rules allow
 * @property {number} [max] the longest one
 */
/** @typedef {Reference & NodeDetails} Details */

/** @typedef {Reference & {kind: string, asks: string, parent?: Reference, reason: string, message: string, created: number}} Wait */
/** @typedef {{cidr: string, namespace: string, child: string, until: number}} Keeper for whom a range that cools down is kept */
/** @typedef {{total: number, from: number, reasons: Record<string, number>, rows: Wait[]}} Waiting */

/**
 * Asks the server.
 * @param {string} path
 * @param {Record<string, string|number|undefined>} [parameters]
 * @returns {Promise<any>}
 */
export async function ask(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== "") query.set(name, String(value));
  }
  const response = await fetch("api/" + path + "?" + query);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/**
 * Calls back with each state that the server sends, and with null when the server cannot be reached.
 * @param {(state: State|null) => void} changed
 */
export function follow(changed) {
  const source = new EventSource("api/events");
  source.onmessage = (message) => changed(JSON.parse(message.data));
  source.onerror = () => {
    changed(null);
    // The browser itself tries again unless the answer was an error.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => follow(changed), 2000);
  };
}

/**
 * Returns a function that calls f, but never twice at a time: calls while it runs make one more afterwards.
 * @param {() => Promise<void>} f
 * @returns {() => Promise<void>}
 */
export function oneAtATime(f) {
  /** @type {Promise<void>|undefined} */
  let running;
  let again = false;
  return () => {
    if (running !== undefined) {
      again = true;
      return running;
    }
    running = (async () => {
      try {
        do {
          again = false;
          await f();
        } while (again);
      } finally {
        running = undefined;
      }
    })();
    return running;
  };
}
