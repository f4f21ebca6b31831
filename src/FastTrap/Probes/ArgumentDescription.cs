namespace FastTrap;

/// <summary>One argument of a probe, as its provider describes it.</summary>
/// <param name="Index">Its number as the probe's consumer sees it, from 0.</param>
/// <param name="NativeType">Its type in the program, for example <c>int32 signed</c>.</param>
/// <param name="TranslatedType">Its type in C as the consumer sees it, for example <c>int32_t</c>.</param>
/// <param name="NativeIndex">Its number in the program's call, from 0.</param>
/// <param name="Location">Where it is found at a hit, for example <c>rdi</c> or <c>[rbp-0x18]</c>, or why it cannot be read.</param>
public sealed record ArgumentDescription(int Index, string NativeType, string TranslatedType, int NativeIndex, string Location);
