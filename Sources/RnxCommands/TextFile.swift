import Glibc

/// Reads small files of text whole.
enum TextFile {
  /// Everything that an open descriptor still gives.
  /// - Parameters:
  ///   - mebibytes: the most it may be.
  ///   - failure: makes the error out of the reason: too large, not UTF-8, or what read(2) says.
  static func read(_ descriptor: CInt, mebibytes: Int, failure: (String) -> Failure) throws -> String {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 32 << 10)
    while true {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      if count == 0 { break }
      if count < 0 {
        if errno == EINTR { continue }
        throw failure(String(cString: strerror(errno)))
      }
      bytes += buffer[..<count]
      guard bytes.count <= mebibytes << 20 else { throw failure("it is larger than \(mebibytes) MiB") }
    }
    guard let text = String(validating: bytes, as: UTF8.self) else { throw failure("it is not UTF-8 text") }
    return text
  }
}
