import Glibc

/// The host's page cache.
package enum HostPages {
  /// Bytes written that are not on their disks yet, of everyone (`Dirty` and `Writeback` of proc_meminfo(5)). Nil if that can't
  /// be read.
  package static func unwrittenBytes() -> Int? {
    let file = open("/proc/meminfo", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 16 << 10)
    let count = bytes.withUnsafeMutableBytes { read(file, $0.baseAddress, $0.count) }
    guard count > 0 else { return nil }
    return unwrittenBytes(meminfo: String(decoding: bytes[..<count], as: UTF8.self))
  }

  package static func unwrittenBytes(meminfo: String) -> Int? {
    var sum = 0
    var found = 0
    for line in meminfo.split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count == 3, fields[0] == "Dirty:" || fields[0] == "Writeback:", fields[2] == "kB",
        let kibibytes = Int(fields[1]), kibibytes >= 0, kibibytes < 1 << 50
      else { continue }
      sum += kibibytes << 10
      found += 1
    }
    return found == 2 ? sum : nil
  }
}
