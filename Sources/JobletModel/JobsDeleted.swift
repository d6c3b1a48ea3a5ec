/// What came of a `DELETE /v1/jobs`.
public struct JobsDeleted: Codable, Hashable, Sendable {
  /// How many were deleted by this call.
  public var deleted: Int
  /// True if the call's time was up before all were: the same call goes on.
  public var hasMore: Bool

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case deleted
    case hasMore = "more"
  }

  public init(deleted: Int, hasMore: Bool) {
    self.deleted = deleted
    self.hasMore = hasMore
  }
}
