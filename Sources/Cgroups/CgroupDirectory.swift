import Glibc
import LinuxKernel

/// One directory of a cgroup v2 tree: reads and writes its interface files. All calls are short file operations on cgroupfs;
/// they block the thread for microseconds, except ``remove()``.
public struct CgroupDirectory: Hashable, Sendable {
  public let path: String

  public init(path: String) { self.path = path }

  /// A directory below this one.
  public func child(_ name: String) -> CgroupDirectory { CgroupDirectory(path: "\(path)/\(name)") }

  /// Makes the directory. - Throws: `EEXIST` if it is there.
  public func create() throws(Errno) { try Kernel.call("mkdir", path) { mkdir(path, 0o755) } }

  public var exists: Bool { access(path, F_OK) == 0 }

  /// The directory itself, as `CLONE_INTO_CGROUP` wants it.
  public func open() throws(Errno) -> FileDescriptor { try .open(path, O_RDONLY | O_DIRECTORY) }

  /// Reads an interface file whole, without its last newline.
  public func read(_ file: String) throws(Errno) -> String {
    var bytes = try FileDescriptor.open("\(path)/\(file)", O_RDONLY).readAll()
    if bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Writes one value, in one write as cgroupfs wants it. The error's subject names the file and the value.
  public func write(_ value: String, to file: String) throws(Errno) {
    let descriptor = try FileDescriptor.open("\(path)/\(file)", O_WRONLY)
    let raw = descriptor.raw
    let bytes = Array(value.utf8)
    try Kernel.call("write", "'\(value)' to \(path)/\(file)") {
      bytes.withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) }
    }
  }

  /// The controllers that can be used here (`cgroup.controllers`).
  public func controllers() throws(Errno) -> Set<Controller> {
    Set(try read("cgroup.controllers").split(separator: " ").compactMap { Controller(rawValue: String($0)) })
  }

  /// The controllers that children get (`cgroup.subtree_control`).
  public func enabledForChildren() throws(Errno) -> Set<Controller> {
    Set(try read("cgroup.subtree_control").split(separator: " ").compactMap { Controller(rawValue: String($0)) })
  }

  /// Gives `controllers` to the children. Nothing is written for those that have it.
  public func enableForChildren(_ controllers: Set<Controller>) throws(Errno) {
    let missing = controllers.subtracting(try enabledForChildren())
    guard !missing.isEmpty else { return }
    try write(missing.map { "+\($0.rawValue)" }.sorted().joined(separator: " "), to: "cgroup.subtree_control")
  }

  /// Kills every process in this subtree (`cgroup.kill`).
  public func kill() throws(Errno) { try write("1", to: "cgroup.kill") }

  /// True while a process lives in this subtree (`cgroup.events`).
  public func isPopulated() throws(Errno) -> Bool {
    try read("cgroup.events").split(separator: "\n").contains("populated 1")
  }

  /// True when every process in this subtree is frozen (`cgroup.events`), which takes a moment after ``freeze(_:)``.
  public func isFrozen() throws(Errno) -> Bool {
    try read("cgroup.events").split(separator: "\n").contains("frozen 1")
  }

  /// Freezes the subtree, or lets it go on (`cgroup.freeze`). A frozen process can still be killed.
  public func freeze(_ isFrozen: Bool) throws(Errno) { try write(isFrozen ? "1" : "0", to: "cgroup.freeze") }

  /// What ``freeze(_:)`` asked for last.
  public func isAskedToFreeze() throws(Errno) -> Bool { try read("cgroup.freeze") == "1" }

  /// The processes in this very directory.
  public func processes() throws(Errno) -> [pid_t] {
    try read("cgroup.procs").split(separator: "\n").compactMap { pid_t($0) }
  }
}
