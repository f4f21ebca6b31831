using System.Text;

namespace FastTrap.Tool.CommandLine;

/// <summary>Splits the text of <c>-c</c> into words as a shell does: blanks separate, quotes and backslashes join. Nothing is expanded.</summary>
internal static class CommandSplitter
{
    /// <summary>The words.</summary>
    /// <exception cref="UsageException">A quote is not closed, or there is no word.</exception>
    public static IReadOnlyList<string> Split(string text)
    {
        List<string> words = [];
        StringBuilder word = new();
        bool inWord = false;
        char quote = '\0';
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            if (quote == '\'')
            {
                quote = c == '\'' ? '\0' : quote;
                AppendUnless(word, c, '\'');
            }
            else if (c == '\\' && i + 1 < text.Length && (quote == '\0' || text[i + 1] is '"' or '\\' or '$' or '`'))
            {
                word.Append(text[++i]);
                inWord = true;
            }
            else if (quote == '"')
            {
                quote = c == '"' ? '\0' : quote;
                AppendUnless(word, c, '"');
            }
            else if (c is '\'' or '"')
            {
                quote = c;
                inWord = true;
            }
            else if (char.IsWhiteSpace(c))
            {
                if (inWord)
                {
                    words.Add(word.ToString());
                    word.Clear();
                    inWord = false;
                }
            }
            else
            {
                word.Append(c);
                inWord = true;
            }
        }

        if (quote != '\0')
        {
            throw new UsageException($"-c: the quote {quote} is not closed in: {text}");
        }

        if (inWord)
        {
            words.Add(word.ToString());
        }

        return words.Count > 0 ? words : throw new UsageException("-c: the command is empty. Write it as one word: -c 'ls -l'.");
    }

    private static void AppendUnless(StringBuilder word, char c, char end)
    {
        if (c != end)
        {
            word.Append(c);
        }
    }
}
