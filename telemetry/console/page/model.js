// What is known, as the views of the page want it. The server sends lengths of time; here they are points in time, so that countdowns
// go on between two messages. Objects are replaced and not changed: who holds one knows that it is still the same.
import { clean } from './format.js';

const MAX_EVENTS = 1000, MAX_FAILURES = 256, MAX_POINTS = 60;
const STATES = { ok: 'ok', idle: 'off', degraded: 'warn', down: 'bad' };

export class Model {
	constructor() {
		this.reset();
	}

	reset() {
		this.time = 0; // of the last summary, by the clock of the server
		this.heard = -Infinity; // when it came, by performance.now
		this.frozen = null;
		this.name = '';
		this.admin = '';
		this.tick = 1000;
		this.meshes = [];
		this.lines = new Map();
		this.services = [];
		this.events = [];
		this.failures = [];
		this.details = null; // the last ServiceView
	}

	/** now is the time of the server, as far as we know. */
	get now() {
		if (this.frozen !== null) return this.frozen;
		return this.time ? this.time + performance.now() - this.heard : Date.now();
	}

	summary(m) {
		const time = Date.parse(m.time);
		this.time = time;
		this.heard = performance.now();
		this.name = m.name;
		this.admin = m.admin ?? '';
		this.tick = m.tick > 0 ? m.tick : 1000;
		const opened = new Map(this.meshes.map((o) => [o.mesh, o.opened]));
		this.meshes = m.meshes ?? [];
		const before = this.lines;
		if (!m.delta) {
			this.lines = new Map();
			// Numbers that go back are those of another process: of the one before there is nothing to be had any more.
			if (m.event < (this.events[0]?.id ?? 0) || m.failure < (this.failures[0]?.id ?? 0) || m.meshes?.some((o) => opened.has(o.mesh) && opened.get(o.mesh) !== o.opened)) {
				this.events = [];
				this.failures = [];
			}
		}
		for (const g of m.gone ?? []) this.lines.delete(keyOf(g));
		for (const s of m.services ?? []) {
			const key = keyOf(s);
			this.lines.set(key, line(s, time, before.get(key)));
		}
		this.services = [...this.lines.values()];
	}

	/** sparks takes a summary for its lines over time, which the stream leaves out. */
	sparks(m) {
		this.tick = m.tick > 0 ? m.tick : 1000;
		for (const s of m.services ?? []) {
			const l = this.lines.get(keyOf(s));
			if (l) this.lines.set(l.key, { ...l, spark: s.spark ?? [], sparkErrors: s.sparkErrors ?? [] });
		}
		this.services = [...this.lines.values()];
	}

	/** detail takes a ServiceView. */
	detail(v) {
		const time = Date.parse(v.time);
		const at = (ms) => (ms > 0 ? time + ms : 0);
		const endpoints = (v.endpoints ?? []).map((e) => ({
			...e,
			shown: clean(e.addr),
			find: (e.addr + ' ' + (e.zone ?? '') + ' ' + e.status + ' ' + (e.meta ?? []).map((p) => p.name + '=' + p.value).join(' ')).toLowerCase(),
			probeAt: at(e.probeIn),
			backAt: at(e.backIn),
			state: stateOf(e.status),
		}));
		this.details = {
			...v, key: keyOf(v.line), endpoints,
		};
	}

	addEvents(list) {
		const ids = new Set(list.map((e) => e.id));
		// One that repeats itself comes again under a new number: what it was before goes.
		const same = new Set(list.filter((e) => e.count > 1).map(likeness));
		const kept = this.events.filter((e) => !ids.has(e.id) && !same.has(likeness(e)));
		const added = list.map((e) => ({ ...e, at: Date.parse(e.time), ends: e.until ? Date.parse(e.until) : 0, find: [e.service, e.addr, e.kind, e.text, e.by].join(' ').toLowerCase() }));
		this.events = [...added, ...kept].sort((a, b) => b.id - a.id).slice(0, MAX_EVENTS);
	}

	addFailures(list) {
		const ids = new Set(list.map((f) => f.id));
		const added = list.map((f) => ({ ...f, at: Date.parse(f.time), find: [f.service, f.method, f.route, f.flag, f.reason, f.detail, f.error, ...(f.tries ?? []).map((t) => t.addr)].join(' ').toLowerCase() }));
		this.failures = [...added, ...this.failures.filter((f) => !ids.has(f.id))].sort((a, b) => b.id - a.id).slice(0, MAX_FAILURES);
	}

	find(mesh, service) {
		if (mesh) return this.lines.get(keyOf({ mesh, service }));
		return this.services.find((s) => s.service === service);
	}
}

/** keyOf tells services apart. */
export function keyOf(s) {
	return s.mesh + '\n' + s.service;
}

function likeness(e) {
	return JSON.stringify([e.mesh, e.service, e.kind, e.addr ?? '', e.cause ?? '']);
}

/** stateOf is the sign for a Status. */
export function stateOf(status) {
	return STATES[status] ?? (status === 'ejected' || status === 'breaker open' || status === 'unhealthy' || status === 'failing checks' ? 'bad' : 'warn');
}

function line(s, time, before) {
	const at = (ms) => (ms > 0 ? time + ms : 0);
	const l = {
		...s,
		key: keyOf(s),
		shown: clean(s.service),
		find: (s.service + ' ' + s.status + ' ' + s.balance).toLowerCase(),
		state: STATES[s.status] ?? 'warn',
		probeAt: at(s.probeIn),
		forcedUntil: at(s.forced),
		pausedUntil: at(s.retriesPaused),
		inService: s.endpoints - s.out,
		rate: s.now.rate,
		errors: s.now.errors,
		p50: s.now.p50,
		p99: s.now.p99,
		spark: (s.spark ?? before?.spark ?? []).slice(-MAX_POINTS),
		sparkErrors: (s.sparkErrors ?? before?.sparkErrors ?? []).slice(-MAX_POINTS),
	};
	l.why = reason(l);
	return l;
}

/** reason says in a few words what is the matter, empty if nothing is. */
function reason(s) {
	if (s.status === 'idle') return 'not called yet';
	if (s.breaker === 'forced-open') return 'breaker held open by an operator';
	if (s.breaker === 'open') return 'breaker open';
	if (s.endpoints === 0) return 'no endpoints';
	if (s.inService === 0) return 'no endpoint in service';
	if (s.panicking) return 'panic: too few endpoints in service';
	if (s.now.errors >= 0.01) return 'calls fail';
	if (s.sourceAge > 0) return 'source silent';
	if (s.retriesPaused > 0) return 'retries paused';
	if (s.throttle > 0.01) return 'throttled';
	return '';
}
