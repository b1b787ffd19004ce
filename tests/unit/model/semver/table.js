// Writes table.inc: what node's "semver" package says about each range and version, and the order in
// which it puts the versions.
//
//     npm install semver && node table.js > table.inc
const semver = require('semver');

const versions = [
    '0.0.0', '0.0.1', '0.0.2-beta', '0.0.2', '0.0.3', '0.1.0-0', '0.1.0-alpha', '0.1.0', '0.1.1',
    '0.2.0-rc.1', '0.2.0', '0.2.9', '0.10.0', '1.0.0-0', '1.0.0-alpha', '1.0.0-alpha.1',
    '1.0.0-alpha.beta', '1.0.0-beta', '1.0.0-beta.2', '1.0.0-beta.11', '1.0.0-rc.1', '1.0.0',
    '1.0.0+build.5', '1.0.1', '1.2.0-0', '1.2.0-alpha', '1.2.0', '1.2.3-alpha.1', '1.2.3-alpha.2',
    '1.2.3', '1.2.3+a-b', '1.2.4-beta', '1.2.4', '1.2.10', '1.3.0-0', '1.3.0-alpha', '1.3.0',
    '1.10.0', '1.99.99', '2.0.0-0', '2.0.0-alpha', '2.0.0', '2.1.0-x-y.z', '2.1.0', '3.0.0-1.2.3',
    '3.0.0', '10.0.0', '10.20.30', '9007199254740991.0.0',
];
const partials = ['*', 'x', 'X', '0', '0.0', '0.0.0', '0.0.2', '0.0.2-beta', '0.1', '0.1.0',
    '0.1.0-alpha', '0.x', '0.1.x', '1', '1.x', '1.x.x', '1.*', '1.2', '1.2.x', '1.2.X', '1.2.*', '1.2.3',
    '1.2.3-alpha.1', '1.0.0-beta', '1.0.0-rc.1', '2', '2.0.0', '2.0.0-alpha', '1.2.3+build', '10.20.30',
    '1.0.0-0'];
const ranges = [''];
for (const op of ['', '=', '<', '<=', '>', '>=', '^', '~'])
    for (const p of partials)
        ranges.push(op + p);
ranges.push(
    '> 1.2.3', '^ 1.2', '~  1', '>=1.2 <2', '>=1.2.3 <1.3.0 ', ' >=1.2.3-alpha.1 <1.2.3', '>1.0.0 <=1.2',
    '>1 <2', '>=1.2.0-alpha <1.2', '>1.2 >=1.3.0-alpha', '>=1.3.0-0 >1.2', '>1 >=2.0.0-alpha',
    '>=2.0.0-alpha <2', '<=1.2 >=1.3.0-0', '<0.1 >=0.1.0-0', '^1.2.3 <1.2.10', '~1.2.3-alpha.1 >1.2.3',
    '^1.0.0-beta <1.0.0', '>=1.0.0-alpha <=1.0.0-beta.11', '1.x || 2.x', '0.0.1||1.2.3||3', '^0.0.2 || ^0.1',
    '^0.2 || >=2.0.0-alpha <2.0.0', '<0.1.0 || >=10', '||', '1.2.3||', '||1.2.3', '>=1.0.0 || 1.0.0-rc.1', '1 2', '1.2 1.2.3', '<1 >2', '>=0.0.0-0', '<0.0.0-0', '>=1.2.3 1.x <1.3',
    '^0 ^0.1', '~0.1 ~0.1.1', '>9007199254740990');

for (const r of ranges)
    if (semver.validRange(r) === null)
        throw new Error('not a range: ' + r);
console.log('/* Written by table.js with semver ' + require('semver/package.json').version + ' of node: do not edit. */');
console.log('static const char *const table_versions[] = {');
for (const v of versions)
    console.log('    "' + v + '",');
console.log('};');
console.log('static const int8_t table_order[] = { /* of each and the one behind it */');
for (let i = 0; i + 1 < versions.length; i++)
    console.log('    ' + semver.compare(versions[i], versions[i + 1]) + ',');
console.log('};');
console.log('static const struct { const char *range, *has; } table_ranges[] = {');
for (const r of ranges)
    console.log('    {"' + r + '", "' + versions.map((v) => (semver.satisfies(v, r) ? '1' : '0')).join('') + '"},');
console.log('};');
