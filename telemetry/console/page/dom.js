// The few functions by which everything on the page is made and changed. None takes markup: names from registries and texts from
// servers can only become text and attributes. Styles are set through properties, as the policy of the page has no inline style.

const SVG = 'http://www.w3.org/2000/svg';

/** h makes an element with attributes; on* are listeners, class is a class, text is text, and children may be strings. */
export function h(tag, attrs, ...children) {
	return fill(document.createElement(tag), attrs, children);
}

/** s makes an element of a picture. */
export function s(tag, attrs, ...children) {
	return fill(document.createElementNS(SVG, tag), attrs, children);
}

function fill(el, attrs, children) {
	for (const key in attrs) {
		const value = attrs[key];
		if (value == null || value === false) continue;
		if (key === 'text') text(el, value);
		else if (key.startsWith('on')) el.addEventListener(key.slice(2), value);
		else el.setAttribute(key, value === true ? '' : value);
	}
	for (const child of children) if (child != null && child !== false) el.append(child);
	return el;
}

const shown = new WeakMap();

/** text sets the text of an element if it is another one. */
export function text(el, value) {
	value = String(value);
	if (shown.get(el) === value) return;
	shown.set(el, value);
	el.textContent = value;
}

/** attr sets an attribute, or removes it if the value is null or false, if it is another one. */
export function attr(el, name, value) {
	if (value == null || value === false) {
		if (el.hasAttribute(name)) el.removeAttribute(name);
		return;
	}
	value = value === true ? '' : String(value);
	if (el.getAttribute(name) !== value) el.setAttribute(name, value);
}

/** prop sets a property of the style. */
export function prop(el, name, value) {
	if (el.style.getPropertyValue(name) !== value) el.style.setProperty(name, value);
}

/** show shows or hides an element. */
export function show(el, yes) {
	if (el.hidden === yes) el.hidden = !yes;
}

/**
 * keyed makes the children of parent those of items, in order. Children live as long as their key, so that focus, selection and
 * what was unfolded stay. make gets the item and returns {el, update}; update gets the item and now, for what else it needs: make is
 * called once for a key, and what it sees around it is that of then.
 */
export function keyed(parent, items, key, make, now) {
	const old = parent.kept ?? (parent.kept = new Map());
	const next = new Map();
	let at = parent.firstElementChild;
	for (const item of items) {
		const k = key(item);
		if (next.has(k)) continue;
		let child = old.get(k);
		if (child) old.delete(k);
		else child = make(item);
		next.set(k, child);
		child.update?.(item, now);
		if (child.el === at) at = at.nextElementSibling;
		else parent.insertBefore(child.el, at);
	}
	for (const child of old.values()) {
		child.el.remove();
		child.gone?.();
	}
	parent.kept = next;
	return next;
}

// Shapes differ so that nobody needs the colours.
const SHAPES = {
	ok: 'M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9Z',
	warn: 'M6 .8L11.6 10.8H.4Z',
	bad: 'M1.6 3.4L3.4 1.6 6 4.2 8.6 1.6 10.4 3.4 7.8 6 10.4 8.6 8.6 10.4 6 7.8 3.4 10.4 1.6 8.6 4.2 6Z',
	off: 'M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9ZM6 3.3a2.7 2.7 0 1 1 0 5.4a2.7 2.7 0 1 1 0-5.4Z',
	info: 'M6 .5L11.5 6 6 11.5.5 6Z',
	half: 'M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9ZM6 3v6a3 3 0 1 1 0-6Z',
};

/** mark makes the sign of a state: ok, warn, bad, off, info or half. It is for the eye only: the words stand beside it. */
export function mark(state = 'off') {
	const path = s('path', { 'fill-rule': 'evenodd' });
	const el = s('svg', { viewBox: '0 0 12 12', width: 12, height: 12, 'aria-hidden': 'true' }, path);
	const m = {
		el,
		set(now) {
			attr(el, 'class', 'mark ' + now);
			attr(path, 'd', SHAPES[now] ?? SHAPES.off);
		},
	};
	m.set(state);
	return m;
}

/** status makes a sign with words, to be updated together. */
export function status() {
	const m = mark(), words = h('span');
	const el = h('span', { class: 'status' }, m.el, words);
	return {
		el,
		set(state, value) {
			m.set(state);
			attr(el, 'data-state', state);
			text(words, value);
		},
	};
}
