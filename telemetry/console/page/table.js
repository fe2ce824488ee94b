// A table that is sorted by its headers and of whose rows only those in sight exist: ten thousand cost no more than fifty.
import { h, text, attr, prop, show } from './dom.js';

const OVERSCAN = 6;

/**
 * Table shows rows under columns: {key, label, title, align, sort: row => value, first: 'desc', cell: () => ({el, set(row, now)})}.
 * Rows are found again by key(row); open(row) is what Enter and a click do, href(row) where the first cell leads.
 */
export class Table {
	constructor({ label, columns, key, open, sort, empty, className = '' }) {
		this.columns = columns;
		this.key = key;
		this.open = open;
		this.order = sort;
		this.rows = [];
		this.sorted = [];
		this.pool = [];
		this.height = 0;
		this.top = 0; // of the rows, from the top of the page, when it was last measured
		this.attached = false;
		this.shown = ''; // what window last showed
		this.now = 0;
		this.head = h('tr');
		for (const c of columns) {
			const th = h('th', { scope: 'col', class: c.align ?? '', 'data-col': c.key, title: c.title });
			if (c.sort) {
				th.append(h('button', { type: 'button', class: 'sort', onclick: () => this.sortBy(c.key) }, h('span', { text: c.label })));
			} else th.append(h('span', { text: c.label }));
			this.head.append(th);
		}
		this.above = h('tr', { class: 'gap', 'aria-hidden': 'true' }, h('td', { colspan: columns.length }));
		this.below = h('tr', { class: 'gap', 'aria-hidden': 'true' }, h('td', { colspan: columns.length }));
		this.body = h('tbody', null, this.above, this.below);
		this.table = h('table', { class: 'table ' + className, 'aria-label': label }, h('thead', null, this.head), this.body);
		// Phones have no headers to click on: they choose from a list.
		this.choice = h('select', { 'aria-label': 'Sort by', onchange: () => this.sortBy(this.choice.value, true) });
		for (const c of columns) if (c.sort) this.choice.append(h('option', { value: c.key, text: 'Sort by ' + c.label.toLowerCase() }));
		this.empty = h('p', { class: 'empty', text: empty ?? 'Nothing here.' });
		this.el = h('div', { class: 'table-box' }, h('div', { class: 'table-choice' }, this.choice), this.table, this.empty);
		this.onscroll = () => this.window();
		this.showOrder();
	}

	attach() {
		this.attached = true;
		// Until now the rows were where they were before: what is in sight is seen to once all is laid out anyway.
		requestAnimationFrame(() => this.attached && this.window());
		addEventListener('scroll', this.onscroll, { passive: true });
		addEventListener('resize', this.onscroll, { passive: true });
	}

	detach() {
		this.attached = false;
		removeEventListener('scroll', this.onscroll);
		removeEventListener('resize', this.onscroll);
	}

	sortBy(key, keep) {
		const column = this.columns.find((c) => c.key === key);
		if (this.order.key === key && !keep) this.order = { key, down: !this.order.down };
		else this.order = { key, down: column.first === 'desc' };
		this.showOrder();
		this.arrange();
		this.window();
	}

	showOrder() {
		for (const th of this.head.children) {
			attr(th, 'aria-sort', th.dataset.col === this.order.key ? (this.order.down ? 'descending' : 'ascending') : null);
		}
		this.choice.value = this.order.key;
	}

	/** set shows other rows, or the same with other values; now is the time that countdowns count from. */
	set(rows, now) {
		this.rows = rows;
		this.now = now;
		this.arrange();
		this.window();
	}

	arrange() {
		const column = this.columns.find((c) => c.key === this.order.key);
		const keyed = this.rows.map((row) => [column.sort(row), this.key(row), row]);
		const sign = this.order.down ? -1 : 1;
		keyed.sort((a, b) => {
			if (a[0] !== b[0]) return (a[0] < b[0] ? -1 : 1) * sign;
			return a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0;
		});
		this.sorted = keyed.map((k) => k[2]);
		this.shown = '';
		show(this.empty, this.sorted.length === 0);
		show(this.table, this.sorted.length > 0);
		attr(this.table, 'aria-rowcount', this.sorted.length + 1);
	}

	/** window makes the rows that are in sight. */
	window() {
		const n = this.sorted.length;
		if (!n || !this.el.isConnected) return;
		if (!this.pool.length) this.grow();
		const narrow = matchMedia('(max-width: 760px)').matches;
		if (!this.height || this.narrow !== narrow) {
			this.narrow = narrow;
			this.height = this.pool[0].el.isConnected ? this.pool[0].el.getBoundingClientRect().height || 40 : 40;
		}
		// Where it comes back to its place, to measure would lay the page out twice.
		if (this.attached || !this.top) this.top = this.body.getBoundingClientRect().top + scrollY;
		const top = this.top - scrollY;
		let from = Math.floor(-top / this.height) - OVERSCAN;
		let to = Math.ceil((innerHeight - top) / this.height) + OVERSCAN;
		from = Math.max(0, Math.min(from, n));
		to = Math.max(from, Math.min(to, n));
		const shown = from + ' ' + to;
		if (shown === this.shown) return;
		this.shown = shown;
		this.place(from, to);
		this.pad(this.above, from * this.height);
		this.pad(this.below, (n - to) * this.height);
	}

	/** place gives each row in sight the line it had, so that focus and pointer stay with what they were on. */
	place(from, to) {
		while (this.pool.length < to - from) this.grow();
		const wanted = new Map();
		for (let i = from; i < to; i++) wanted.set(this.key(this.sorted[i]), null);
		const free = [];
		for (const slot of this.pool) {
			if (slot.key != null && wanted.get(slot.key) === null) wanted.set(slot.key, slot);
			else free.push(slot);
		}
		let at = this.above.nextElementSibling;
		for (let i = from; i < to; i++) {
			const row = this.sorted[i], key = this.key(row);
			const slot = wanted.get(key) ?? free.pop();
			slot.key = key;
			slot.set(row, i);
			show(slot.el, true);
			if (slot.el === at) at = at.nextElementSibling;
			else move(this.body, slot.el, at);
		}
		for (const slot of free) {
			slot.key = null;
			show(slot.el, false);
		}
	}

	pad(gap, height) {
		show(gap, height > 0);
		prop(gap.firstChild, 'height', height + 'px');
	}

	grow() {
		const cells = this.columns.map((c) => {
			const cell = c.cell();
			const td = h(c.header ? 'th' : 'td', { class: c.align ?? '', 'data-col': c.key, 'data-label': c.label, scope: c.header ? 'row' : null }, cell.el);
			return { td, cell };
		});
		const el = h('tr', { class: this.open ? 'row opens' : 'row' }, ...cells.map((c) => c.td));
		const slot = {
			el,
			row: null,
			key: null,
			set: (row, index) => {
				slot.row = row;
				attr(el, 'aria-rowindex', index + 2);
				for (const c of cells) c.cell.set(row, this.now, c.td);
			},
		};
		if (this.open) {
			el.addEventListener('click', (e) => {
				// Links and buttons in the row do what they do, and marked text is no click.
				if (e.target.closest('a, button, select, input') || String(getSelection())) return;
				this.open(slot.row);
			});
		}
		this.below.before(el);
		this.pool.push(slot);
		if (this.pool.length === 1) slot.set(this.sorted[0], 0);
	}
}

function move(parent, el, before) {
	if (parent.moveBefore) {
		parent.moveBefore(el, before);
		return;
	}
	const focus = el.contains(document.activeElement) ? document.activeElement : null;
	parent.insertBefore(el, before);
	focus?.focus({ preventScroll: true });
}

/** plain is a cell with text. */
export function plain(value, state) {
	return () => {
		const el = h('span');
		return {
			el,
			set(row, now) {
				text(el, value(row, now));
				if (state) attr(el, 'data-state', state(row, now));
			},
		};
	};
}
