#!/usr/bin/env python3
"""Lists a store, and verifies every checksum that it passes: read_store.py <root>. It is written from docs/format.md
alone, to prove that the page is enough; its steps are those of the page. No writer may have the store open. The reader
refuses a newer store, and damage that no second copy heals: it prints the reason alone, and exits with 1."""
import collections, hashlib, itertools, os, re, sys
from struct import iter_unpack, pack, unpack_from
from types import SimpleNamespace as Fields
from zlib import crc32

BLOCK, TOP, SCOPES = 4096, 2**63 - 1, {1: "exclusive", 2: "shared"}
STATUSES, KINDS = {1: "pending", 2: "committed", 3: "failed"}, {1: "checkpoint", 2: "savepoint"}
Handle = collections.namedtuple("Handle", "file offset length crc data")
# What consists of parts. u8: an integer of 8 bytes. b16: 16 bytes. ?x: an optional x. *x: a number, then that many x.
# !x: a change of x. %k:v: a map. &k:v: changes of k to v.
PARTS = {
    "nothing": "", "file": "u1 u2 u8 u8", "lender": "bytes u8", "origin": "u4 b16 file ?lent", "lent": "u4 file",
    "range": "u8 u8", "redo": "file u8 u4 bytes", "artifact": "handle ?b32",
    "partition": "?artifact *artifact %text:handle ?groups",
    "connector": "%text:text u8 %text:text", "operator": "u4 u4 !handle &u4:partition",
    "content": "&text:handle &text:operator !handle &text:connector &text:connector &text:u8 &text:status ?u8 &text:u8 "
               "&text:nothing &text:nothing ?u8 &text:bytes"}
RECORDS = {1: "u8 u8 u8 u8 u8 u1 u8 u2 u1 *u8 *redo", 2: "*u8", 3: "u8 u1", 4: "*range", 5: "u8 u8 u1", 6: "u8", 7: "frame",
           8: "u8"}
class Newer(Exception): pass

def check(holds, what):
    if not holds: raise ValueError(what)
def ascending(items): return all(a < b for a, b in zip(items, items[1:]))
def sealed(data, size, seed=0):
    """Whether the checksum behind the first `size` bytes is theirs, going on from `seed`."""
    return len(data) >= size + 4 and crc32(data[:size], seed) == unpack_from("<I", data, size)[0]
def read(path):
    if os.path.islink(path) or not os.path.isfile(path): return b""
    with open(path, "rb") as file: return file.read()
def header(places, magic, size, valid):
    """The first whole header of these places, without its checksum, which is at `size`."""
    newer = None
    for data in (place[:size + 4] for place in places if len(place) >= size + 4 and place[:8] == magic):
        version, flags = unpack_from("<II", data, 8)
        if version > 1 and not sealed(magic + b"\1\0\0\0" + data[12:], size): newer = Newer(f"version {version}")
        elif version != 1 or not sealed(data, size): continue
        elif flags & ~(magic == b"PITONLOG") and magic in (b"PITONSTO", b"PITONLOG", b"PITONBAS"): newer = Newer(f"features or flags {flags:#x}")
        elif valid(data[:size]): return data[:size]
    if newer: raise newer

class Cursor:
    """Reads what a record is made of. A code that the page does not list is an error of a look-up."""
    def __init__(self, data): self.data, self.at, self.files, self.used = data, 0, [], set()
    def take(self, length):
        check(length <= len(self.data) - self.at, "a field reaches beyond its record")
        self.at += length
        return self.data[self.at - length:self.at]
    def each(self, kinds, old=None):
        return tuple(self.get(kind, old and old[index]) for index, kind in enumerate(kinds.split()))
    def get(self, kind, old=None):
        """`old` is what the other content has in that place."""
        mark, rest = kind[0], kind[1:]
        if kind in PARTS: return self.each(PARTS[kind], old)
        if mark == "u": return int.from_bytes(self.take(int(rest)), "little")
        if mark == "b" and kind != "bytes": return self.take(int(rest))
        if mark == "?": return self.get(rest) if (False, True)[self.get("u1")] else None
        if mark == "*": return [self.get(rest) for _ in range(self.get("u8"))]
        if mark == "!":
            code = self.get("u1")
            check(code or old, "a handle went that was not there")
            return (None, None, old)[code] if code != 1 else self.get(rest)
        if mark not in "%&": return getattr(self, kind)()
        (key, value), old = rest.split(":"), old or {}
        gone = self.get("*" + key) if mark == "&" else []
        kept = {name: old[name] for name in old if name not in gone}
        came = [(name := self.get(key), self.get(value, kept.get(name))) for _ in range(self.get("u8"))]
        check(ascending(gone) and set(gone) <= set(old) and ascending([name for name, _ in came]), "keys make no sense")
        return {**kept, **dict(came)}
    def groups(self):
        start, end = self.each("u4 u4")
        check(start < end, "a range of key groups is empty")
        return start, end
    def bytes(self): return self.take(self.get("u8"))
    def text(self): return str(self.bytes(), "utf-8")
    def status(self):
        code = self.get("u1")
        return STATUSES[code] + (f", {self.text()!r}" if code == 3 else "")
    def handle(self):
        if self.get("?nothing") is None:
            data, crc = self.each("bytes u4")
            return Handle(None, 0, len(data), crc, data)
        index, offset, length, crc = self.each("u4 u8 u8 u4")
        check(64 <= offset < 2**64 - length, "a handle names no place")
        self.used.add(index)
        return Handle(self.files[index], offset, length, crc, None)
    def frame(self):
        head = header([self.take(28)], b"PITONSRC", 24, lambda head: head[12:16] == bytes(4)) or bytes(24)
        body = self.take(int.from_bytes(head[16:], "little") + 4)
        check(any(head) and sealed(body, len(body) - 4), "a frame is damaged")
    def content(self, old, origins):
        self.files, lenders = self.get("*file"), self.get("*lender")
        for index, store, own, lent in self.get("*origin"):
            origins[self.files[index]] = store, own, lent and (lenders[lent[0]][0], lent[1])
        content = self.get("content", old)
        check(ascending([(scope, generation, lane, sequence) for scope, lane, generation, sequence in self.files])
              and self.used == set(range(len(self.files))), "the table of files makes no sense")
        return content

def apply(m, data):
    """Step 6: applies a record to the manifest `m`."""
    c = Cursor(data)
    kind = c.get("u1")
    if kind not in RECORDS: raise Newer(f"a record of kind {kind}")
    id, *fields = c.each(RECORDS[kind])
    if kind == 1:
        against, generation, epoch, _, sort, parent, _, flags, gone, redo = fields
        check(id and id not in m.checkpoints and max(id, generation, parent) <= TOP and flags < 4,
              f"checkpoint {id} makes no sense")
        m.redo.update({(file, offset): (crc, data) for file, offset, crc, data in redo})
        content = c.content(m.checkpoints[against].content if against else None, m.origins)
        m.checkpoints[id] = Fields(generation=generation, epoch=epoch, kind=KINDS[sort], pinned=bool(flags & 1),
                                   content=content, statuses=content[6], metadata=content[12])
    elif kind == 3:
        one = m.checkpoints[id]
        one.pinned, one.statuses = (False, True)[fields[0]], c.get("&text:status", one.content[6])
        one.metadata = c.get("&text:bytes", one.content[12])
    elif kind == 4:
        m.ranges = id
        check(ascending(id) and all(to < start for to, start in id), "ranges make no sense")
    check(kind != 5, "the content of a checkpoint was lost")
    check(c.at == len(data), "a record is longer than its fields")
    for one in id if kind == 2 else gone if kind == 1 else (): m.checkpoints.pop(one, None)
    if kind in (1, 6): m.floor = max(m.floor, id)

def read_log(path, store, name):
    """Step 2. A headless log has no records."""
    data, log = read(path), Fields(name=name, head=None, records={}, end=TOP)
    head = header([data, data[BLOCK:]], b"PITONLOG", 72,
                  lambda head: unpack_from("<Q", head, 56)[0] in range(BLOCK, 2**33 + 1, BLOCK))
    if not head or unpack_from("<16sQQ", head, 16) != (store, *name): return log
    log.head, (log.salt, half) = head, unpack_from("<QQ", head, 48)
    log.cut = head[12] & 1 and len(data) < 2 * (BLOCK + half)
    for at, start in itertools.product(range(0, min(half, len(data)), BLOCK), (2 * BLOCK, 2 * BLOCK + half)):
        copy = data[start + at:start + half]
        if at in log.records or len(copy) < 44 or copy[:24] != b"PITONREC" + pack("<QQ", log.salt, at): continue
        number, length, first = unpack_from("<QII", copy, 24)
        size = 40 + 40 * first + length
        end = at + -(-(size + 4) // BLOCK) * BLOCK
        if first == (at == 0) and end <= half and sealed(copy, size, crc32(head)):
            link = unpack_from("<5Q", copy, 40) if first else (0,) * 5
            log.records[at] = Fields(number=number, end=end, link=link, data=copy[40 + 40 * first:size])
    return log

def follow(logs):
    """Step 3: the logs that count, from the last one back, and the link behind which the chain begins."""
    log = logs.get(max((name for name in logs if 0 in logs[name].records), default=None))
    counts = {log.name: log} if log else {}
    while log and ((link := log.records[0].link)[0] or link[2]):
        name, log = log.name, logs.get(link[:2])
        if not log or 0 not in log.records or log.name >= name or log.salt != link[2]: return counts, link
        log.end, counts[log.name] = link[3], log
    return counts, None

def load(base):
    """What the records of a base led to, each block from the file that has it whole."""
    m, contents = Fields(floor=base.floor, checkpoints={}, ranges=[], origins={}, redo={}), b""
    for number in itertools.count():
        for block in (data[BLOCK + 65536 * number:][:65536] for data in base.copies):
            index, length = unpack_from("<II", block.ljust(8, b"\xff"))
            last, length = divmod(length, 2**31)
            if index == number and (last or length == 65524) and sealed(block, 8 + length, crc32(base.head)): break
        else: raise ValueError("a block of a base is damaged in both files")
        contents += block[8:8 + length]
        if last: break
    c = Cursor(contents)
    while c.at < len(contents): apply(m, c.bytes())
    return m

def manifest(root, store):
    """Steps 2 to 6."""
    logs, bases, m, why = {}, {}, None, ValueError("files of the manifest log are missing or damaged")
    for entry in os.listdir(f"{root}/manifests"):
        match = re.fullmatch("(([0-9]+)-([0-9]+))[.](log|base|copy)", entry)
        name = match and (int(match[2]), int(match[3]))
        if not match or "%08d-%010d" % name != match[1] or not 1 <= min(name) <= max(name) <= TOP: continue
        path = f"{root}/manifests/{match[1]}"
        if match[4] == "log": logs[name] = read_log(f"{path}.log", store, name)
        else:
            copies = [read(path + ".base"), read(path + ".copy")]
            head = header(copies, b"PITONBAS", 112, lambda head: unpack_from("<16sQQ", head, 16) == (store, *name))
            if not head: continue
            floor, _, *log, salt, offset, number = unpack_from("<7Q", head, 56)
            bases[*log, number, name] = Fields(copies=copies, head=head, floor=floor, place=(*log, salt, offset))
    counts, behind = follow(logs)
    last = max(counts, default=(0, 0))
    check(not counts or not counts[last].cut, "the last log is cut short")
    later = [name for name in logs if name > last]  # Blank, each behind the one before it; else a log is lost.
    if any(not logs[name].head or logs[name].records or (name[0], name[1] - 1) not in [last, *later] for name in later):
        raise why
    for key in sorted(bases, reverse=True):  # Steps 4 and 5 at once: only a base from which nothing is missing.
        place, log = bases[key].place, counts.get(bases[key].place[:2])
        if place[:2] > last and place[:2] not in logs: raise why
        if m or not (log.salt == place[2] and place[3] <= log.end if log else place == (behind or place)[:4] and (
            behind or not counts and place[0] == 0)): continue
        try: m, start, expected = load(bases[key]), place, key[2]
        except (ValueError, LookupError, TypeError, Newer) as error: why = error
    if not m:
        if behind or not counts: raise why
        m, start = Fields(floor=0, checkpoints={}, ranges=[], origins={}, redo={}), (0, 0, 0, 0)
        expected = counts[min(counts)].records[0].number
    for name, log in sorted(counts.items()):
        if name < start[:2]: continue
        at = start[3] if name == start[:2] else 0
        while at < log.end and at in log.records and (record := log.records[at]).number == expected <= TOP:
            check(record.end <= log.end, "a record is damaged")
            apply(m, record.data)
            at, expected, m.floor = record.end, expected + 1, max(m.floor, record.link[4])
        check(at == log.end or log.end == TOP and not any(
            one >= at and log.records[one].number > expected for one in log.records), "a record is damaged")
    return m

def verify(root, store, origins, redo, handle):
    """Step 8: compares a state with its handle, by the header, the trailer and the payload, or takes it from the log."""
    (file, offset, length, crc, data), scope = handle, "inline"
    known, logged = redo.get((file, offset), (None, b""))
    if known == crc and length == len(logged): data, scope = logged, SCOPES[file[0]]
    elif file:
        of, own, lent = origins.get(file, (store, file, None))
        scope, lane, generation, sequence = lent[1] if lent else file
        scope, folder = SCOPES[scope], os.fsdecode(lent[0]) if lent else root
        path = f"{folder}/{scope}/{generation:08}-{lane:03}-{sequence:010}.seg"
        data = read(path)
        head = header([data], b"PITONSEG", 60, lambda head: head[12:16] + head[51:] == bytes(13))
        check(head and unpack_from("<16sQQHB", head, 16) == (of, *own[2:], *own[1::-1]),
              f"the header of {path} is damaged")
        data, trailer = data[offset:offset + length], data[offset + length:][:48]
        check(sealed(trailer, 44, crc32(head)) and unpack_from("<8sQQ8xI8s", trailer) == (
            b"PITONEND", offset, length, crc, head[50:51] + bytes(7)), f"a trailer in {path} is damaged")
    check(crc32(data) == crc, f"a state has another checksum: {handle}")
    return data, f"{scope}, {length} bytes, checksum {crc:08x}"

def key_groups(state):
    """The key groups that a state is split into. Verifies each."""
    footer, end = header([state[-24:]], b"PITONKGS", 20, lambda head: True), len(state) - 24
    count, crc = unpack_from("<II", footer or bytes(20), 12)
    check(footer and 24 * count <= end and crc32(state[end - 24 * count:end]) == crc, "an index of key groups is damaged")
    at, groups = 0, []
    for group, offset, length, crc in iter_unpack("<IQQI", state[end - 24 * count:end]):
        check(offset == at and crc32(state[at:at + length]) == crc, f"key group {group} is damaged")
        at, groups = at + length, groups + [group]
    check(at == end - 24 * count and ascending(groups), "an index of key groups makes no sense")
    return groups

def states(content):
    """Label, handle and digest of each state, and whether it is split into key groups."""
    for name, handle in sorted(content[0].items()): yield f"named {name!r}", handle, None, None
    for name, (_, _, coordinator, partitions) in sorted(content[1].items()):
        if coordinator: yield f"operator {name!r}, coordinator", coordinator, None, None
        for number, (snapshot, deltas, handles, groups) in sorted(partitions.items()):
            place = f"operator {name!r}, partition {number}"
            if groups: place += ", key groups %d..%d" % groups
            if snapshot: yield f"{place}, snapshot", *snapshot, groups
            for delta in deltas: yield f"{place}, delta", *delta, groups
            for label, handle in handles.items(): yield f"{place}, state {label!r}", handle, None, None
    if content[2]: yield "sidecar", content[2], None, None

def listing(root):
    places, latest = [read(f"{root}/piton.store")[at:][:44] for at in (0, BLOCK)], None
    stores = {header([place], b"PITONSTO", 40, lambda head: any(head[32:])) for place in places} - {None}
    check(len(stores) == 1, "piton.store is damaged")
    store = stores.pop()[16:32]
    m = manifest(root, store)
    yield f"store {store.hex()}, ids used up to {m.floor}"
    for id, one in sorted(m.checkpoints.items()):
        back = any(to < id <= start for to, start in m.ranges)
        yield (f"checkpoint {id}: generation {one.generation}, epoch {one.epoch}, {one.kind}"
               + ", pinned" * one.pinned + ", rolled back" * back)
        for label, handle, digest, groups in states(one.content):
            data, text = verify(root, store, m.origins, m.redo, handle)
            if groups: text += ", of key groups " + " ".join(map(str, key_groups(data)))
            check(digest in (None, hashlib.sha256(data).digest()), f"{label} has another digest")
            yield f"  {label}: {text}"
        for name, status in sorted(one.statuses.items()): yield f"  sink {name!r}: {status}"
        for name, value in sorted(one.metadata.items()): yield f"  metadata {name!r}: {value!r}"
        if one.epoch and not back: latest = id
    yield f"latest: {latest}"

try: sys.stdout.buffer.write("".join([line + "\n" for line in listing(sys.argv[1])]).encode())
except (ValueError, LookupError, TypeError, OSError, Newer) as error:
    sys.exit(f"{sys.argv[1]}: {type(error).__name__}: {error}")
