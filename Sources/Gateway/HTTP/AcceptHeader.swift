/// Chooses what a reply is made of from the request's `Accept` (RFC 9110, section 12.5.1).
public enum AcceptHeader {
  /// The offer the client likes best; of equals, the first offered. Nil if it accepts none.
  /// - Parameters:
  ///   - header: the field's value; nil or empty accepts everything.
  ///   - offers: media types without parameters, the default one first.
  public static func choose(_ header: String?, from offers: [String]) -> String? {
    // What most clients say, read without a look at each offer: that cost a twentieth of a request.
    guard let header, header != "*/*", !header.allSatisfy(\.isWhitespace) else { return offers.first }
    let ranges = header.split(separator: ",").prefix(64).map(Range.init)
    var best: (offer: String, quality: Int)?
    for offer in offers {
      // The most specific range that matches an offer gives its quality.
      let matching = ranges.filter { $0.matches(offer) }.max { $0.specificity < $1.specificity }
      guard let matching, matching.quality > 0, matching.quality > (best?.quality ?? 0) else { continue }
      best = (offer, matching.quality)
    }
    return best?.offer
  }

  private struct Range {
    var type: Substring
    var subtype: Substring
    /// In thousandths.
    var quality = 1000

    init(_ text: Substring) {
      let parts = text.split(separator: ";")
      let media = parts.first.map(Range.trim) ?? ""
      let halves = media.split(separator: "/", maxSplits: 1)
      type = halves.first ?? ""
      subtype = halves.count > 1 ? halves[1] : ""
      for parameter in parts.dropFirst() {
        let pair = Range.trim(parameter).split(separator: "=", maxSplits: 1)
        guard pair.count == 2, pair[0].lowercased() == "q", let value = Double(pair[1]), value >= 0 else { continue }
        quality = Int(min(value, 1) * 1000)
      }
    }

    var specificity: Int { type == "*" ? 0 : subtype == "*" ? 1 : 2 }

    func matches(_ offer: String) -> Bool {
      let halves = offer.split(separator: "/", maxSplits: 1)
      if type == "*" { return subtype == "*" }
      guard halves.count == 2, type.lowercased() == halves[0] else { return false }
      return subtype == "*" || subtype.lowercased() == halves[1]
    }

    private static func trim(_ text: Substring) -> Substring {
      var text = text.drop(while: \.isWhitespace)
      while text.last?.isWhitespace == true { text.removeLast() }
      return text
    }
  }
}
