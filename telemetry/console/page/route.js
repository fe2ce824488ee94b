// What is behind the # of the address: a view, what it is about, and filters. Links can be passed on.

/** href makes a link: href('service', name), href('timeline', '', {service, kind}). */
export function href(view, about = '', filters = {}) {
	let s = '#/' + view;
	if (about !== '') s += '/' + encode(about);
	const list = Object.entries(filters).filter(([, v]) => v).map(([k, v]) => k + '=' + encode(v));
	return list.length ? s + '?' + list.join('&') : s;
}

/** parse reads location.hash. What cannot be read is the overview. */
export function parse(hash) {
	const [path, rest] = split(hash.replace(/^#\/?/, ''), '?');
	const [view, about] = split(path, '/');
	const filters = {};
	for (const pair of rest.split('&')) {
		const [k, v] = split(pair, '=');
		if (k) filters[k] = decode(v);
	}
	return { view: view || 'overview', about: decode(about), filters };
}

function split(s, at) {
	const i = s.indexOf(at);
	return i < 0 ? [s, ''] : [s.slice(0, i), s.slice(i + 1)];
}

function encode(s) {
	return encodeURIComponent(String(s).toWellFormed?.() ?? String(s));
}

function decode(s) {
	try {
		return decodeURIComponent(s);
	} catch {
		return s;
	}
}
