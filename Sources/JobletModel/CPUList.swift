/// A set of CPU numbers in the kernel's list form, `0-3,6` (cpuset(7), "List format"): what `cpuset.cpus` takes and
/// `/sys/devices/system/cpu/online` shows. Reading is bounded in time and memory whatever the text says.
public struct CPUList: Hashable, Sendable, CustomStringConvertible {
  /// Each number once, ascending.
  public let cpus: [Int]

  /// The highest CPU number there can be: no kernel is built for more than 8192.
  public static let highest = 8191
  /// Longer texts are refused unread; every CPU singly is 40 KB, and nobody writes that.
  public static let maxBytes = 4096
  /// What the form is, for error messages.
  public static let allowed = "CPU numbers and ranges in ascending form, each CPU once: 0-3,6"

  /// Why a text is no list.
  public struct Invalid: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String
  }

  /// Reads what a client wrote: strict, so that a slip of the pen is no other set of CPUs.
  /// - Throws: ``Invalid`` for an empty list, anything that is not digits, `-` and `,`, a reversed range, a CPU that is given
  ///   twice, and a number over ``highest``.
  public init(_ text: some StringProtocol) throws(Invalid) {
    guard !text.isEmpty else { throw Invalid(description: "must not be empty") }
    guard text.utf8.count <= CPUList.maxBytes else {
      throw Invalid(description: "is \(text.utf8.count) bytes; at most \(CPUList.maxBytes) are allowed")
    }
    var isSet = [Bool](repeating: false, count: CPUList.highest + 1)
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let range = try CPUList.range(part)
      for cpu in range {
        guard !isSet[cpu] else { throw Invalid(description: "names CPU \(cpu) twice") }
        isSet[cpu] = true
      }
    }
    cpus = isSet.indices.filter { isSet[$0] }
  }

  /// The numbers as they are, sorted; those that can't be are left out.
  public init(cpus: some Sequence<Int>) { self.cpus = Set(cpus).filter { (0...CPUList.highest).contains($0) }.sorted() }

  private static func range<Text: StringProtocol>(_ part: Text) throws(Invalid) -> ClosedRange<Int> {
    let ends = part.split(separator: "-", omittingEmptySubsequences: false)
    let numbers = ends.compactMap { number($0) }
    guard (1...2).contains(ends.count), numbers.count == ends.count, let first = numbers.first, let last = numbers.last
    else {
      throw Invalid(description: "has '\(part.prefix(32))', which is no CPU number from 0 to \(highest) and no range")
    }
    guard first <= last else { throw Invalid(description: "has the reversed range '\(part)'") }
    return first...last
  }

  /// One to four digits: no sign, no space, no other script's digits.
  private static func number(_ text: some StringProtocol) -> Int? {
    guard (1...4).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    return Int(text).flatMap { $0 <= highest ? $0 : nil }
  }

  /// The shortest form: `0-3,6`.
  public var description: String {
    var parts: [String] = []
    var index = 0
    while index < cpus.count {
      var end = index
      while end + 1 < cpus.count, cpus[end + 1] == cpus[end] + 1 { end += 1 }
      parts.append(index == end ? "\(cpus[index])" : "\(cpus[index])-\(cpus[end])")
      index = end + 1
    }
    return parts.joined(separator: ",")
  }

  /// Those of this list that `other` lacks.
  public func subtracting(_ other: CPUList) -> CPUList { CPUList(cpus: Set(cpus).subtracting(other.cpus)) }
}
