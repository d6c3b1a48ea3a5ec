import FoundationEssentials
import JobletModel

/// Where a list goes on: the last job's ID in base64url, opaque to clients so that it may one day be something else.
enum Cursor {
  static func encode(_ id: JobID) -> String {
    var bytes: [UInt8] = []
    for word in [id.high, id.low] { withUnsafeBytes(of: word.bigEndian) { bytes.append(contentsOf: $0) } }
    return Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing(
      "=", with: "")
  }

  static func decode(_ text: String) -> JobID? {
    guard text.utf8.count == 22 else { return nil }
    let standard = text.replacing("-", with: "+").replacing("_", with: "/") + "=="
    guard let data = Data(base64Encoded: standard), data.count == JobID.byteCount else { return nil }
    let words = data.withUnsafeBytes { bytes in
      (
        UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
        UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      )
    }
    return JobID(high: words.0, low: words.1)
  }
}
