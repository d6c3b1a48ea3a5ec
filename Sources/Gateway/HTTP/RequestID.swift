import HTTPTypes
import JobletModel

/// The name of a request in replies, logs and audit lines.
enum RequestID {
  /// The client's own, if it is sane (it goes into logs), else a new one.
  static func of(_ request: HTTPRequest) -> String {
    guard let given = request.headerFields[.requestID], isSane(given) else { return make() }
    return given
  }

  static func make() -> String {
    JobID(node: .random(in: .min ... .max)).description
  }

  private static func isSane(_ text: String) -> Bool {
    (1...128).contains(text.utf8.count)
      && text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"):
          true
        case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: ":"), UInt8(ascii: "/"),
          UInt8(ascii: "+"), UInt8(ascii: "="):
          true
        default: false
        }
      }
  }
}

extension Problem {
  static let unreadableRequest = Problem(.badRequest, "the request is not HTTP, or its head is too large")
}
