// The frame of the page: what view is shown, the connection, search, pause and colours.
import { h, text, attr, show, mark } from './dom.js';
import { clean, span, countdown, count } from './format.js';
import { parse } from './route.js';
import { Model } from './model.js';
import { Stream, query } from './stream.js';
import { overview } from './overview.js';
import { service } from './service.js';
import { topology } from './topology.js';
import { failures } from './failures.js';
import { timeline } from './timeline.js';
import { policy } from './policy.js';

const VIEWS = { overview, service, topology, failures, timeline, policy };
const TABS = [['overview', 'Services'], ['topology', 'Topology'], ['failures', 'Failures'], ['timeline', 'Timeline'], ['policy', 'Policy']];

const $ = (id) => document.getElementById(id);
const main = $('main'), find = $('find'), pause = $('pause'), theme = $('theme'), link = $('link'), notice = $('notice'), whoami = $('whoami');

class App {
	constructor() {
		this.model = new Model();
		this.route = parse(location.hash);
		this.view = null;
		this.query = '';
		this.queued = false;
		this.stream = new Stream({
			path: () => 'api/stream' + query(this.route.view === 'service' ? { service: this.route.about, mesh: this.route.filters.mesh } : {}),
			names: ['summary', 'service', 'events', 'failures'],
			on: (name, data) => this.hear(name, data),
			changed: () => {
				this.showLink();
				this.refresh();
			},
		});
	}

	hear(name, data) {
		if (name === 'summary') this.model.summary(data);
		else if (name === 'service') this.model.detail(data);
		else if (name === 'events') this.model.addEvents(data.events ?? []);
		else if (name === 'failures') this.model.addFailures(data.failures ?? []);
		this.refresh();
	}

	/** go shows another view. */
	go(hash) {
		location.hash = hash;
	}

	/** put changes the address without a step in the history. */
	put(hash) {
		history.replaceState(null, '', hash);
		this.route = parse(location.hash);
		this.refresh();
	}

	/** open shows the view of the address. */
	open() {
		const before = this.route;
		this.route = parse(location.hash);
		if (!VIEWS[this.route.view]) this.route = parse('');
		const same = this.view && before.view === this.route.view && before.about === this.route.about && before.filters.mesh === this.route.filters.mesh;
		if (same) {
			this.refresh();
			return;
		}
		this.view?.detach?.();
		if (this.view) {
			find.value = '';
			this.query = '';
		}
		this.view = this.route.view === 'overview' ? this.home ??= VIEWS.overview(this, this.route) : VIEWS[this.route.view](this, this.route);
		// The list of all services stays where it is, out of sight and with its layout: it is what one comes back to, and to lay it out
		// anew is most of the work. In this order nothing is laid out twice: what goes is, and what comes is when its rows are there.
		scrollTo(0, 0);
		for (const el of [...main.children]) if (el !== this.home?.el) el.remove();
		this.home?.el.classList.toggle('kept', this.view !== this.home);
		if (!this.view.el.isConnected) main.prepend(this.view.el);
		this.render();
		this.view.attach?.();
		this.showTabs();
		// Which service is streamed is part of the address of the stream. Other views do with what there is: a new stream begins with all
		// that is known, which takes a while.
		const changed = !this.asked || (this.route.view === 'service' && this.asked !== this.stream.path());
		if (changed && this.stream.state !== 'paused') this.connect();
	}

	connect() {
		this.asked = this.stream.path();
		this.stream.open();
	}

	/** refresh shows what has changed, once before the next picture. */
	refresh() {
		if (this.queued) return;
		this.queued = true;
		requestAnimationFrame(() => {
			this.queued = false;
			this.render();
		});
	}

	render() {
		this.view.update({ model: this.model, query: this.query, filters: this.route.filters });
		const title = (this.view.title ? clean(this.view.title, 60) + ' · ' : '') + (this.model.name ? clean(this.model.name, 40) + ' · ' : '') + 'zerohop';
		if (document.title !== title) document.title = title;
		const meshes = this.model.meshes, first = meshes[0];
		const zone = first?.zone ? ' · zone ' + clean(first.zone, 40) : '';
		text(whoami, clean(this.model.name, 60) + (meshes.length > 1 ? ` · ${count(meshes.length)} meshes` : first ? zone + (first.generation ? ` · spec ${first.generation}` : '') : ''));
		for (const [name, tally] of this.tallies ?? []) {
			const n = name === 'failures' ? this.model.failures.length : 0;
			text(tally, n);
			show(tally, n > 0);
		}
	}

	showTabs() {
		if (!this.tallies) {
			this.tallies = new Map();
			for (const [name, label] of TABS) {
				const a = h('a', { href: name === 'overview' ? '#/' : '#/' + name, 'data-view': name }, h('span', { text: label }));
				if (name === 'failures') {
					const tally = h('span', { class: 'tally', 'aria-label': 'kept' });
					this.tallies.set(name, tally);
					a.append(tally);
				}
				$('nav').append(a);
			}
			this.render();
		}
		const current = this.route.view === 'service' ? 'overview' : this.route.view;
		for (const a of $('nav').children) attr(a, 'aria-current', a.dataset.view === current ? 'page' : null);
		attr(find, 'placeholder', (this.view.search ?? 'Search') + '  /');
	}

	showLink() {
		if (!this.linkMark) {
			this.linkMark = mark();
			this.linkText = h('span');
			link.append(this.linkMark.el, this.linkText);
		}
		const { state } = this.stream;
		const age = this.model.time ? performance.now() - this.model.heard : 0;
		this.linkMark.set({ live: 'ok', paused: 'info', stale: 'warn', lost: 'bad' }[state] ?? 'off');
		attr(link, 'data-state', state);
		text(this.linkText, { live: 'Live', paused: 'Paused', stale: 'Stale', lost: 'Not connected' }[state] ?? 'Connecting');
		const bad = state === 'lost' || state === 'stale';
		attr(main, 'data-stale', bad && this.model.time ? '' : null);
		show(notice, bad);
		if (state === 'lost') {
			text(notice, 'The connection to the process is lost. ' + (this.model.time ? `What is shown is ${span(age)} old. ` : '')
				+ (this.stream.source ? 'Trying again.' : `Trying again in ${countdown(this.stream.retryAt - performance.now())}.`));
		} else if (state === 'stale') text(notice, `The process has sent nothing for ${span(age)}. What is shown may be out of date.`);
	}

	pause(yes) {
		this.model.frozen = yes ? this.model.now : null;
		this.stream.pause(yes);
		attr(pause, 'aria-pressed', String(yes));
		text(pause, yes ? 'Resume' : 'Pause');
		if (!yes) this.asked = this.stream.path();
		this.showLink();
		this.refresh();
	}
}

const themes = ['auto', 'light', 'dark'];

function setTheme(name) {
	if (!themes.includes(name)) name = 'auto';
	attr(document.documentElement, 'data-theme', name === 'auto' ? null : name);
	text(theme, { auto: 'Auto', light: 'Light', dark: 'Dark' }[name]);
	attr(theme, 'aria-label', `Colour scheme: ${name}`);
	theme.dataset.now = name;
}

function remember(key, value) {
	try {
		if (value === undefined) return localStorage.getItem(key);
		localStorage.setItem(key, value);
	} catch {
		// Where nothing can be kept it is as the system has it.
	}
	return null;
}

const app = new App();
setTheme(remember('zerohop-theme') ?? 'auto');
theme.addEventListener('click', () => {
	const next = themes[(themes.indexOf(theme.dataset.now) + 1) % themes.length];
	setTheme(next);
	remember('zerohop-theme', next);
});
pause.addEventListener('click', () => app.pause(app.stream.state !== 'paused'));
find.addEventListener('input', () => {
	app.query = find.value.trim().toLowerCase();
	app.refresh();
});
addEventListener('keydown', (e) => {
	const typing = e.target.closest?.('input, select, textarea, dialog');
	if (e.key === '/' && !typing && !e.ctrlKey && !e.metaKey && !e.altKey) {
		e.preventDefault();
		find.focus();
		find.select();
	}
	if (e.key === 'Escape' && e.target === find) {
		find.value = '';
		app.query = '';
		find.blur();
		app.refresh();
	}
});
addEventListener('hashchange', () => app.open());
document.querySelector('.skip').addEventListener('click', (e) => {
	e.preventDefault(); // the part behind # is the view
	main.focus();
});
new ResizeObserver(([bar]) => {
	const height = getComputedStyle(bar.target).position === 'sticky' ? bar.target.offsetHeight : 0;
	document.documentElement.style.setProperty('--bar', height + 'px');
}).observe(document.querySelector('.bar'));
setInterval(() => {
	app.showLink();
	if (app.stream.state !== 'paused' && document.visibilityState === 'visible') app.refresh();
}, 1000);
app.showLink();
app.open();
