import JobletModel
import JobletWire

/// Free space on one of the file systems persist writes to.
package struct FreeSpace: Sendable, Hashable {
  package var bytes: Int64
  /// A directory on that file system.
  package var path: String

  package init(bytes: Int64, path: String) {
    self.bytes = bytes
    self.path = path
  }
}

/// Decides by the free space whether new jobs are taken on: a pure state machine.
///
/// Below the floor they are not. They are again only a twentieth of the floor above it: a disk that hovers at the floor
/// must not make clients see the node come and go.
package struct FreeSpaceFloor: Sendable {
  private(set) package var isBelow = false

  package init() {}

  /// What is true now.
  /// - Parameter floor: `persist.retention.min_free`, in bytes; 0 for no floor.
  package mutating func judge(_ space: FreeSpace, floor: Int64) -> StoreCondition {
    let margin = floor / 20
    isBelow = floor > 0 && (isBelow ? space.bytes < floor + margin : space.bytes < floor)
    guard isBelow else { return .good }
    return StoreCondition(
      acceptsJobs: false,
      reason: """
        \(ByteCount.text(space.bytes)) are free on the disk of \(space.path), and the floor is \(ByteCount.text(floor)) \
        (persist.retention.min_free): no new jobs until more than \(ByteCount.text(floor + margin)) are free. Free some \
        space, delete jobs that nobody needs, bound what is kept (persist.retention), or lower the floor
        """)
  }
}

/// Sizes for people.
package enum ByteCount {
  /// About how much: `17 B`, `1.5 GiB`.
  package static func text(_ bytes: Int64) -> String {
    var value = Double(bytes)
    var unit = "B"
    for next in ["KiB", "MiB", "GiB", "TiB"] where abs(value) >= 1024 {
      value /= 1024
      unit = next
    }
    guard unit != "B" else { return "\(bytes) B" }
    let hundredths = Int64((value * 100).rounded())
    let (whole, fraction) = (hundredths / 100, abs(hundredths) % 100)
    if fraction == 0 { return "\(whole) \(unit)" }
    if fraction % 10 == 0 { return "\(whole).\(fraction / 10) \(unit)" }
    return "\(whole).\(fraction < 10 ? "0" : "")\(fraction) \(unit)"
  }
}
