/// Writes the few YAML forms needed here, so that PEM stays readable and line breaks stay exact.
enum YAMLText {
  /// A double-quoted scalar (YAML 1.2, 5.7 and 7.3.1).
  static func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case _ where scalar.value < 0x20 || scalar.value == 0x7F:
        let digits = String(scalar.value, radix: 16)
        out += "\\x" + (digits.count == 1 ? "0" : "") + digits
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out + "\""
  }

  /// The lines below a `|`: text that ends in exactly one newline.
  static func blockLines(_ text: String, indent: String) -> [String] {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    if lines.last == "" { lines.removeLast() }
    return lines.map { $0.isEmpty ? "" : indent + $0 }
  }
}
