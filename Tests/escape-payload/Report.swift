import CEscape
import Glibc

/// What an attempt came to, as one word: `done`, or the name of the error that refused it.
func word(_ result: Int) -> String { result >= 0 ? "done" : String(cString: escape_error_name(CInt(-result))) }

/// A call that returns -1 and sets `errno`.
func attempt(_ body: () -> CInt) -> String {
  let result = body()
  return result == -1 ? word(Int(-errno)) : "done"
}

/// Prints what an attempt came to: a line `name<TAB>outcome`. Unbuffered, for the next attempt may end the process.
func report(_ name: String, _ outcome: String) {
  let line = Array("\(name)\t\(outcome)\n".utf8)
  _ = line.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
}

/// A system call by name. Strings and structures are passed as pointers in `arguments`.
func call(_ name: String, _ arguments: Int...) -> Int {
  let a = arguments + [Int](repeating: 0, count: 6 - arguments.count)
  return escape_call(escape_number(name), a[0], a[1], a[2], a[3], a[4], a[5])
}

/// A C string or a block of zeros that stays where it is for the rest of this program.
func pointer(_ text: String) -> Int { Int(bitPattern: strdup(text)) }
func zeros(_ count: Int) -> Int { Int(bitPattern: calloc(1, count)) }

/// Opens and closes a file.
func opening(_ path: String, _ flags: CInt) -> String {
  let file = open(path, flags | O_CLOEXEC, 0o600)
  guard file >= 0 else { return word(Int(-errno)) }
  close(file)
  return "done"
}

/// Opens a file and writes one text to it.
func writing(_ text: String, to path: String) -> String {
  let file = open(path, O_WRONLY | O_CLOEXEC)
  guard file >= 0 else { return word(Int(-errno)) }
  defer { close(file) }
  return attempt { write(file, text, strlen(text)) < 0 ? -1 : 0 }
}

/// The first bytes of a file; its error's name in place of them.
func reading(_ path: String, _ count: Int = 65_536) -> String {
  let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
  guard file >= 0 else { return word(Int(-errno)) }
  defer { close(file) }
  var bytes = [UInt8](repeating: 0, count: count)
  let length = read(file, &bytes, count)
  guard length >= 0 else { return word(Int(-errno)) }
  return String(decoding: bytes[..<length], as: UTF8.self)
}

/// A directory's entries without `.` and `..`; nil if it can't be read.
func entries(_ path: String) -> [String]? {
  guard let handle = opendir(path) else { return nil }
  defer { closedir(handle) }
  var names: [String] = []
  while let entry = readdir(handle) {
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    if name != ".", name != ".." { names.append(name) }
  }
  return names.sorted()
}

/// How a child ended: `exit N` or `signal N`.
func ending(_ status: CInt) -> String {
  if status < 0 { return word(Int(status)) }
  return status & 0x7F == 0 ? "exit \((status >> 8) & 0xFF)" : "signal \(status & 0x7F)"
}

/// Runs a body in a forked child.
func inChild(_ body: @escaping @convention(c) (UnsafeMutableRawPointer?) -> CInt) -> String {
  ending(escape_in_child(body, nil))
}
