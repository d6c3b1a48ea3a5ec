import Glibc
import Synchronization

/// The pages of the running program's own code.
package enum ProgramText {
  private static let isReleased = Mutex(false)

  /// ``release()``, the first time it is called in this process; later calls, as after each reload, do nothing: by then the
  /// pages are those that the daemon works with.
  /// - Returns: whether this was the first call.
  @discardableResult
  package static func releaseOnce() -> Bool {
    let isFirst = isReleased.withLock { isReleased in
      defer { isReleased = true }
      return !isReleased
    }
    if isFirst { release() }
    return isFirst
  }

  /// Lets go of what only the start needed: options, configuration and the runtime's tables touch four fifths of a program's
  /// pages, which an idle daemon would keep mapped for good. The kernel may reuse them; one that is needed after all is mapped
  /// again from the page cache (madvise(2), `MADV_DONTNEED` on a file's private pages that nobody writes).
  ///
  /// Reads `/proc/self/maps`: call it at start only.
  package static func release() {
    guard let maps = readAll("/proc/self/maps"), let program = link("/proc/self/exe") else { return }
    for line in maps.split(separator: "\n") {
      guard let range = range(of: line, program: program),
        let start = UnsafeMutableRawPointer(bitPattern: range.lowerBound)
      else { continue }
      // Advice: a kernel that does not take it changes nothing.
      _ = madvise(start, range.count, MADV_DONTNEED)
    }
  }

  /// The addresses of a line of `/proc/self/maps` (proc(5)) if it is the program's code. Only what can be executed: the pages
  /// that relocations have written are readable too, and must stay.
  package static func range(of line: Substring, program: String) -> Range<UInt>? {
    let fields = line.split(separator: " ", maxSplits: 5)
    guard fields.count == 6, fields[1] == "r-xp", fields[5].drop(while: { $0 == " " }) == program else { return nil }
    let ends = fields[0].split(separator: "-")
    guard ends.count == 2, let low = UInt(ends[0], radix: 16), let high = UInt(ends[1], radix: 16), low < high else {
      return nil
    }
    return low..<high
  }

  private static func link(_ path: String) -> String? {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = readlink(path, &buffer, buffer.count)
    return count > 0 ? String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
  }

  private static func readAll(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16_384)
    while true {
      let count = read(descriptor, &buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { return count == 0 ? String(decoding: bytes, as: UTF8.self) : nil }
      bytes += buffer[..<count]
    }
  }
}
