import JobletModel

/// Moments as people give them to an option.
enum TimeOption {
  /// - Throws: ``Failure`` naming the option and what is allowed.
  static func parse(_ text: String, option: String, now: Timestamp = .now()) throws -> Timestamp {
    guard let time = TimeText.parse(text, now: now) else {
      throw Failure(
        "\(option) '\(text.prefix(64))' is not a time", why: "allowed is \(TimeText.allowed)", next: "give one of these"
      )
    }
    return time
  }
}
