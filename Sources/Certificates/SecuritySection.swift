import YAML

/// Edits the `security:` section of the configuration in place: three keys change, every other byte stays.
public struct SecuritySection: Sendable {
  /// The keys set here, in the order they are written.
  static let keys = ["serverCert", "serverKey", "caCert"]

  private let text: String

  /// - Parameter text: the whole configuration file.
  public init(_ text: String) { self.text = text }

  /// The present value of each of the three keys; empty where it is not set.
  /// - Throws: ``CertificateFailure`` if the file is not YAML.
  public func values() throws -> [String: String] {
    guard case .mapping(let root)? = try SecuritySection.parse(text), case .mapping(let section)? = root["security"]
    else {
      return [:]
    }
    return Dictionary(uniqueKeysWithValues: SecuritySection.keys.map { ($0, section[$0]?.string ?? "") })
  }

  /// The file with the three keys set.
  ///
  /// The edit goes by lines and is then proved: both texts are parsed, and anything that differs but these keys, or a
  /// key that did not come out as wanted, is an error and nothing is written.
  /// - Parameter values: PEM text or a file's path for each of `serverCert`, `serverKey`, `caCert`.
  public func setting(_ values: [String: String]) throws -> String {
    let before = try SecuritySection.parse(text)
    // By scalars: to Swift a CRLF is one character, and none that equals a newline.
    var lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    if lines.last == "" { lines.removeLast() }
    if let start = lines.firstIndex(where: SecuritySection.isHeader) {
      try SecuritySection.replace(in: &lines, section: start, values)
    } else {
      if let last = lines.last, !last.isEmpty { lines.append("") }
      lines.append("security:")
      lines += SecuritySection.rendered(values, indent: "  ")
    }
    let edited = lines.joined(separator: "\n") + "\n"
    try SecuritySection.prove(before, try SecuritySection.parse(edited), values)
    return edited
  }

  private static func isHeader(_ line: String) -> Bool {
    line.hasPrefix("security:") || line.hasPrefix("\"security\":") || line.hasPrefix("'security':")
  }

  private static func replace(in lines: inout [String], section start: Int, _ values: [String: String]) throws {
    let header = lines[start]
    let tail = header.drop { $0 != ":" }.dropFirst()
    let value = tail.prefix { $0 != "#" }.filter { !$0.isWhitespace }
    guard value.isEmpty || value == "{}" || value == "~" || value == "null" else {
      throw CertificateFailure(
        "the configuration's security section is written on one line ('\(header.prefix(60))'), which can't be edited "
          + "safely; write it as 'security:' with one key a line below")
    }
    let comment = tail.drop { $0 != "#" }
    lines[start] = "security:" + (comment.isEmpty ? "" : "  " + comment)
    var end = start + 1
    while end < lines.count, !isTopLevel(lines[end]) { end += 1 }
    var body = Array(lines[(start + 1)..<end])
    let indent = body.first { !isBlankOrComment($0) }.map { String($0.prefix { $0 == " " }) } ?? "  "
    for key in keys { removeKey(key, indent: indent, from: &body) }
    lines.replaceSubrange((start + 1)..<end, with: rendered(values, indent: indent) + body)
  }

  /// Takes a key out, with the lines that belong to its value: those indented deeper, and blank ones between them.
  private static func removeKey(_ key: String, indent: String, from body: inout [String]) {
    guard
      let start = body.firstIndex(where: { line in
        ["", "\"", "'"].contains { line.hasPrefix("\(indent)\($0)\(key)\($0):") }
      })
    else { return }
    var end = start + 1
    var probe = end
    while probe < body.count {
      let line = body[probe]
      let isBlank = line.allSatisfy { $0 == " " }
      if !isBlank, line.prefix(while: { $0 == " " }).count <= indent.count { break }
      probe += 1
      if !isBlank { end = probe }
    }
    body.removeSubrange(start..<end)
  }

  private static func rendered(_ values: [String: String], indent: String) -> [String] {
    keys.flatMap { key -> [String] in
      let value = values[key] ?? ""
      guard value.contains("\n") else { return ["\(indent)\(key): \(YAMLText.quoted(value))"] }
      return ["\(indent)\(key): |"] + YAMLText.blockLines(value, indent: indent + "  ")
    }
  }

  private static func isTopLevel(_ line: String) -> Bool {
    guard let first = line.first else { return false }
    return first != " " && first != "#" && first != "\r"
  }

  private static func isBlankOrComment(_ line: String) -> Bool {
    let trimmed = line.drop { $0 == " " }
    return trimmed.isEmpty || trimmed.hasPrefix("#")
  }

  private static func parse(_ text: String) throws -> YAMLNode? {
    do {
      return try YAMLNode.parse(text)
    } catch {
      throw CertificateFailure("the configuration is not valid YAML: \(error)")
    }
  }

  private static func prove(_ before: YAMLNode?, _ after: YAMLNode?, _ values: [String: String]) throws {
    guard case .mapping(let new)? = after, case .mapping(let newSection)? = new["security"] else {
      throw CertificateFailure("the configuration could not be edited safely; nothing was written")
    }
    for key in keys where newSection[key]?.string != values[key] {
      throw CertificateFailure("security.\(key) could not be set safely; nothing was written. Set it by hand")
    }
    var old: [YAMLNode: YAMLNode] = [:]
    var oldSection: [YAMLNode: YAMLNode] = [:]
    if case .mapping(let root)? = before {
      old = others(root, than: ["security"])
      if case .mapping(let section)? = root["security"] { oldSection = others(section, than: keys) }
    }
    guard old == others(new, than: ["security"]), oldSection == others(newSection, than: keys) else {
      throw CertificateFailure("editing the security section would have changed other keys; nothing was written")
    }
  }

  private static func others(_ mapping: YAMLNode.Mapping, than keys: [String]) -> [YAMLNode: YAMLNode] {
    let rest = mapping.filter { entry in entry.key.string.map { !keys.contains($0) } ?? true }
    return Dictionary(rest.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
  }
}
