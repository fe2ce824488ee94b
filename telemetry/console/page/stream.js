// The connection to the server: events as they come, and what to do when they do not.

const STALE = 5000, FIRST = 1000, LAST = 15000, CONNECT = 8000;

/**
 * Stream keeps a connection to an address that path() gives and hands each event to on(name, data). state is "connecting", "live",
 * "stale" (connected, but nothing comes), "lost" or "paused"; changed is told of every change of it.
 */
export class Stream {
	constructor({ path, names, on, changed }) {
		Object.assign(this, { path, names, on, changed });
		this.state = 'connecting';
		this.heard = performance.now();
		this.wait = FIRST;
		this.source = null;
		this.timer = 0;
		this.retryAt = 0;
		setInterval(() => this.look(), 500);
		addEventListener('online', () => this.state === 'lost' && this.open());
		document.addEventListener('visibilitychange', () => {
			if (document.visibilityState === 'visible' && this.state === 'lost') this.open();
		});
	}

	open() {
		this.close();
		if (this.state !== 'lost') this.turn('connecting');
		const source = this.source = new EventSource(this.path());
		this.opened = performance.now();
		for (const name of this.names) {
			source.addEventListener(name, (e) => {
				if (source !== this.source) return;
				let data;
				try {
					data = JSON.parse(e.data);
				} catch {
					return; // half of a message is worth nothing
				}
				this.heard = performance.now();
				this.wait = FIRST;
				this.on(name, data);
				this.turn('live');
			});
		}
		// Reconnecting is done here and not by the browser, which gives up at answers such as 503.
		source.onerror = () => source === this.source && this.lose();
	}

	lose() {
		this.close();
		const wait = this.wait * (0.75 + Math.random() / 2);
		this.retryAt = performance.now() + wait;
		this.timer = setTimeout(() => this.open(), wait);
		this.wait = Math.min(LAST, this.wait * 2);
		this.turn('lost');
	}

	look() {
		if (this.state === 'live' && performance.now() - this.heard > STALE) this.turn('stale');
		if ((this.state === 'stale' && performance.now() - this.heard > 4 * STALE)
			|| (this.source && this.state !== 'live' && this.state !== 'stale' && performance.now() - this.opened > CONNECT)) this.lose();
	}

	pause(yes) {
		if (yes) {
			this.close();
			this.turn('paused');
		} else {
			this.turn('connecting');
			this.wait = FIRST;
			this.open();
		}
	}

	close() {
		clearTimeout(this.timer);
		this.source?.close();
		this.source = null;
	}

	turn(state) {
		if (state === this.state) return;
		this.state = state;
		this.changed(state);
	}
}

/** get asks for JSON, and throws what can be shown. */
export async function get(path, signal) {
	const answer = await fetch(path, { headers: { Accept: 'application/json' }, cache: 'no-store', credentials: 'same-origin', signal });
	if (!answer.ok) {
		const error = new Error(answer.status === 404 ? 'not known' : `the server answered ${answer.status}`);
		error.status = answer.status;
		throw error;
	}
	return answer.json();
}

/** query makes the part of an address after the question mark, without what is empty. */
export function query(params) {
	const list = new URLSearchParams();
	for (const key in params) if (params[key] !== '' && params[key] != null) list.set(key, params[key]);
	const s = list.toString();
	return s ? '?' + s : '';
}
