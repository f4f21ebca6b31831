namespace FastTrap.Isa.X64;

/// <summary>Sentences for people about windows.</summary>
internal static class WindowRefusalText
{
    public static string Describe(this WindowRefusal refusal) => refusal switch
    {
        WindowRefusal.None => "there is a window",
        WindowRefusal.NotAnInstruction => "no instruction of a known function starts there",
        WindowRefusal.NotDecodable => "the function holds data or overlapping instructions, or its extent is not known",
        WindowRefusal.UnknownTargets => "the function has an indirect jump that is not understood, and the instruction alone is too short for a jump",
        WindowRefusal.Target => "control may come into the bytes that a jump would need, and there is no padding near by",
        WindowRefusal.Claimed => "the bytes that a jump would need serve another site",
        WindowRefusal.BranchTarget => "what follows its ENDBR64 is reached by a jump as well",
        WindowRefusal.NotMovable => "an instruction that a jump would displace cannot be moved",
        WindowRefusal.OutOfReach => "what its instructions refer to cannot be reached from the trampoline",
        _ => throw new ArgumentOutOfRangeException(nameof(refusal), refusal, "Not a refusal."),
    };
}
