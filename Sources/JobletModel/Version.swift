/// The version that every program of Joblet reports.
public let jobletVersion = "0.1.0"
