// What is asked for while a view that needs it is open, beside the stream.
import { get } from './stream.js';

/** Fetched asks for an address now and every so often, and has the page drawn when there is an answer. */
export class Fetched {
	constructor(app, path, every) {
		Object.assign(this, { app, path, every, data: null, error: '', timer: 0, stopped: true });
	}

	start() {
		this.stopped = false;
		this.abort = new AbortController();
		if (this.data === null) this.ask();
		else this.timer = setTimeout(() => this.ask(), this.every); // from the time it was shown before
	}

	stop() {
		this.stopped = true;
		clearTimeout(this.timer);
		this.abort?.abort();
	}

	async ask() {
		const { state } = this.app.stream;
		if (this.data === null || (state !== 'paused' && state !== 'lost' && document.visibilityState === 'visible')) {
			try {
				this.data = await get(this.path, this.abort.signal);
				this.error = '';
			} catch (e) {
				if (this.stopped) return;
				this.error = e.message;
			}
		}
		if (this.stopped) return;
		this.app.refresh();
		this.timer = setTimeout(() => this.ask(), this.every);
	}
}
