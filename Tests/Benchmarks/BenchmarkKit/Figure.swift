#if canImport(Glibc)
  import Glibc
#endif

/// One figure, printed as one JSON line.
public struct Figure {
  public var name: String
  public var value: Double
  public var unit: String
  /// How many measurements it is taken from.
  public var count: Int
  /// Whether the jobs ran with resource limits; nil where that means nothing.
  public var limits: Bool?
  /// What a reader must know beside it.
  public var note: String?

  public init(_ name: String, _ value: Double, _ unit: String, count: Int, limits: Bool? = nil) {
    self.name = name
    self.value = value
    self.unit = unit
    self.count = count
    self.limits = limits
  }

  /// What the figure stands beside.
  public enum Peer {
    case none
    case measured(String, Double)
    /// The peer could not run here; the sentence says why.
    case absent(String, why: String)
  }

  public func print(beside peer: Peer = .none) {
    var line = "{\"figure\":\"\(name)\",\"value\":\(Figure.number(value)),\"unit\":\"\(unit)\""
    switch peer {
    case .none: break
    case .measured(let name, let other):
      line += ",\"peer\":\"\(name)\",\"peer_value\":\(Figure.number(other))"
      line += ",\"ratio\":\(other > 0 ? Figure.number(value / other) : "null")"
    case .absent(let name, let why):
      let clean = why.map { $0 == "\"" || $0 == "\\" || $0.isNewline ? " " : $0 }
      line += ",\"peer\":\"\(name)\",\"peer_value\":null,\"ratio\":null,\"peer_absent\":\"\(String(clean))\""
    }
    line += ",\"n\":\(count)"
    if let limits { line += ",\"limits\":\(limits)" }
    if let note { line += ",\"note\":\"\(note)\"" }
    Swift.print(line + "}")
    fflush(nil)
  }

  /// Three significant digits behind small numbers, none behind large ones.
  static func number(_ value: Double) -> String {
    if value >= 1000 { return "\(Int(value.rounded()))" }
    let scale = value >= 100 ? 10.0 : value >= 1 ? 100.0 : value >= 0.01 ? 1000.0 : 1e7
    return "\((value * scale).rounded() / scale)"
  }
}

/// The value below which `percent` of the sorted samples lie (nearest rank).
public func percentile(_ percent: Double, of samples: [Double]) -> Double {
  let sorted = samples.sorted()
  guard !sorted.isEmpty else { return .nan }
  let rank = Int((percent / 100 * Double(sorted.count)).rounded(.up))
  return sorted[min(max(rank, 1), sorted.count) - 1]
}
