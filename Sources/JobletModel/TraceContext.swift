/// The field `traceparent` of W3C Trace Context: which trace a call belongs to, given on as it came.
public struct TraceContext: Hashable, Sendable, CustomStringConvertible {
  /// `00-<trace-id>-<parent-id>-<flags>`, in lower case.
  public let description: String

  /// Reads the header's value (https://www.w3.org/TR/trace-context/#traceparent-header).
  /// - Returns: nil for what is not one: such a field is to be ignored, as if it were not there.
  public init?(_ text: some StringProtocol) {
    let bytes = Array(text.utf8)
    // Version 00 has no more than this; a later one may go on behind another '-', of which nothing is known here.
    guard bytes.count == 55 || bytes.count > 55 && bytes.count <= 512 && bytes[55] == UInt8(ascii: "-") else {
      return nil
    }
    func field(_ range: Range<Int>) -> ArraySlice<UInt8>? {
      let field = bytes[range]
      let isHex = field.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
      return isHex ? field : nil
    }
    func isZero(_ field: ArraySlice<UInt8>) -> Bool { field.allSatisfy { $0 == UInt8(ascii: "0") } }
    guard [2, 35, 52].allSatisfy({ bytes[$0] == UInt8(ascii: "-") }), let version = field(0..<2),
      let trace = field(3..<35), let parent = field(36..<52), field(53..<55) != nil, !isZero(trace), !isZero(parent),
      !version.elementsEqual("ff".utf8), bytes.count == 55 || !isZero(version)
    else { return nil }
    // Of a later version, the part that is known.
    description = String(decoding: isZero(version) ? bytes : Array("00".utf8) + bytes[2..<55], as: UTF8.self)
  }
}
