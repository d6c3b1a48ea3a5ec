import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

/// Two times of one start, in milliseconds.
struct Sample {
  /// To the job's first instruction.
  var first: Double
  var end: Double
}

/// Something beside Joblet that starts a program in a sandbox.
struct Peer {
  var name: String
  /// The command that runs the program in the sandbox; the number makes names that must differ.
  var command: (Int) -> [String]
  /// Opened for it, by descriptor.
  var files: [CInt: String] = [:]

  /// Runs the program once; it prints CLOCK_MONOTONIC as its first act.
  func start(_ number: Int) throws -> Sample { try launch(command(number), files: files) }
}

/// Starts a command whose program prints CLOCK_MONOTONIC, or writes it to `stampFile`.
func launch(_ command: [String], files: [CInt: String] = [:], stampFile: String? = nil) throws -> Sample {
  if let stampFile { unlink(stampFile) }
  let sent = monotonicNow()
  let child = try Child(command, output: stampFile == nil ? .pipe : .inherit, files: files)
  let text = stampFile == nil ? String(decoding: child.readAll(), as: UTF8.self) : ""
  let status = child.wait()
  let ended = monotonicNow()
  guard status == 0 else { throw BenchmarkError("\(command.joined(separator: " ")) ended with \(status)") }
  let stamp = try stampFile.map { try readFile($0) } ?? text
  guard let first = Int64(stamp.prefix { $0.isNumber }) else { throw BenchmarkError("no time in '\(stamp)'") }
  return Sample(first: Double(first - sent) / 1e6, end: Double(ended - sent) / 1e6)
}

/// Whether a path is a symlink, and where it leads.
func linkTarget(_ path: String) -> String? {
  var buffer = [CChar](repeating: 0, count: 4096)
  let length = readlink(path, &buffer, buffer.count)
  return length > 0 ? String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
}

extension Peer {
  /// bubblewrap at its barest, with the jobs' filter: the whole host read-only, no /proc or /dev of its own.
  static func bubblewrap(_ bed: Bed, filter: String) -> Peer {
    let command =
      ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--seccomp", "9", "\(bed.directory)/bin/first-instruction"]
    return Peer(name: "bwrap", command: { _ in command }, files: [9: filter])
  }

  /// bubblewrap with what a job of Joblet's has: the same mounts, /proc, /dev, /tmp, a writable directory, both filters.
  static func bubblewrapWithRoot(_ bed: Bed, filter: String) throws -> Peer {
    var command = ["bwrap", "--unshare-all", "--new-session", "--die-with-parent", "--cap-drop", "ALL"]
    for path in bed.allowedMounts where access(path, F_OK) == 0 {
      if let target = linkTarget(path) {
        command += ["--symlink", target, path]
      } else {
        command += ["--ro-bind", path, path]
      }
    }
    let work = "\(bed.directory)/bwrap-work"
    guard mkdir(work, 0o755) == 0 || errno == EEXIST else { throw BenchmarkError("\(work): errno \(errno)") }
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind", work, "/work", "--chdir", "/work"]
    command += ["--add-seccomp-fd", "10", "--add-seccomp-fd", "9", "\(bed.directory)/bin/first-instruction"]
    return Peer(
      name: "bwrap with the job's root", command: { _ in command }, files: [9: filter, 10: filter + ".violations"])
  }

  /// `runc run` of a bundle with the same mounts, namespaces, masks and a filter for the same calls.
  static func runc(_ bed: Bed, filter: PayloadFilter) throws -> Peer {
    let bundle = "\(bed.directory)/runc"
    try RuncBundle(bed: bed, filter: filter).write(to: bundle)
    let prefix = "joblet-bench-\(getpid())"
    return Peer(
      name: "runc",
      command: { ["runc", "--root", "\(bundle)/state", "run", "--bundle", bundle, "\(prefix)-\($0)"] })
  }

  /// Runs it a few times; what stops it is the reason for its absence.
  func warmUp() -> BenchmarkError? {
    do {
      for number in 0..<3 { _ = try start(1_000_000 + number) }
      return nil
    } catch { return error as? BenchmarkError ?? BenchmarkError("\(error)") }
  }
}
