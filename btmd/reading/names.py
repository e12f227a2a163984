"""What columns are called in the wild, by what they are for: compared in small letters, with underscores for spaces.

English first, then other languages' words where they can mean nothing else.
"""

import re
from collections.abc import Sequence
from typing import Final

INSTRUCTION: Final = ("instruction", "instructions", "anweisung", "aufgabe", "consigne", "instruccion", "istruzione")
PROMPT: Final = ("prompt", "prompts", "prompt_text", "user_prompt", "prompt_question")
QUESTION: Final = (
    *("question", "questions", "question_text", "query", "user_query", "problem", "q", "ask", "faq_question"),
    *("user", "human", "user_input", "user_message", "human_message", "customer_message", "input", "inputs"),
    *("frage", "fragen", "fragetext", "anfrage", "kundenanfrage", "eingabe", "pregunta", "preguntas", "domanda"),
    *("pergunta", "vraag", "pytanie", "fråga", "otázka", "soru", "вопрос", "问题", "問題", "質問", "질문", "السؤال"),
)
ANSWER: Final = (
    *("output", "outputs", "response", "responses", "completion", "completions", "answer", "answers", "reply"),
    *("answer_text", "response_text", "best_answer", "accepted_answer", "correct_answer", "solution", "faq_answer"),
    *("assistant", "bot", "gpt", "chatbot", "model_output", "model_response", "assistant_message", "bot_message"),
    *("assistant_response", "bot_response", "ai_response", "agent_reply", "agent_response", "target", "targets", "a"),
    *("antwort", "antworten", "antworttext", "ausgabe", "lösung", "loesung", "réponse", "reponse", "respuesta"),
    *("respuestas", "risposta", "resposta", "antwoord", "odpowiedź", "odpowiedz", "svar", "odpověď", "cevap"),
    *("ответ", "回答", "答案", "答え", "답변", "الجواب"),
)
CONTEXT: Final = ("input", "eingabe", "context", "passage", "background", "kontext", "contexte", "contexto", "contesto")
SYSTEM: Final = ("system", "system_prompt", "system_message", "systeminstruction", "system_instruction", "systemprompt")
HISTORY: Final = ("history", "chat_history")
CONVERSATION: Final = (
    *("messages", "conversations", "conversation", "dialogue", "dialog", "dialogues", "dialogs", "chat", "turns"),
    *("contents", "items", "thread", "history", "chat_history", "gespräch", "gespraech", "nachrichten", "data"),
)
TEXT: Final = (
    *("text", "page_content", "raw_content", "raw_text", "full_text", "content", "document"),
    *("texte", "texto", "testo", "tekst", "текст", "文本", "本文"),
)
LABEL: Final = (
    *("label", "labels", "sentiment", "intent", "emotion", "class", "label_text", "summary", "highlights", "tldr"),
    *("zusammenfassung", "klasse", "translation", "kategorie"),
)
CHOICES: Final = ("choices", "options", "option_a", "a)", "mc1_targets", "distractors", "antwortmöglichkeiten")
RATED: Final = ("label", "thumbs_up", "is_good", "kto_tag", "desirable", "is_desirable", "liked")
SPLIT: Final = ("split", "subset_split", "partition")

COMPARED: Final = (
    *(("chosen", "rejected"), ("chosen_response", "rejected_response"), ("response_chosen", "response_rejected")),
    *(("chosen_answer", "rejected_answer"), ("answer_chosen", "answer_rejected"), ("preferred", "rejected")),
    *(("preferred", "dispreferred"), ("preferred", "non_preferred"), ("preferred_output", "non_preferred_output")),
    *(("preferred_response", "dispreferred_response"), ("preferred_response", "rejected_response")),
    *(("accepted", "rejected"), ("chosen", "reject"), ("response_j", "response_k"), ("response_w", "response_l")),
    *(("better", "worse"), ("better_response", "worse_response"), ("winner_response", "loser_response")),
    *(("better_answer", "worse_answer"), ("good_answer", "bad_answer"), ("good_response", "bad_response")),
)
"""Columns with the better and the worse answer."""
JUDGED: Final = (
    ("response_0", "response_1", ("better_response_id", "preferred_response_id", "better", "winner"), ""),
    ("response_a", "response_b", ("winner", "preference", "preferred", "better"), ""),
    ("answer_a", "answer_b", ("winner", "preference", "preferred", "better"), ""),
    ("conversation_a", "conversation_b", ("winner",), ""),
    # In the Stanford Human Preferences, 1 says that A is preferred.
    ("human_ref_a", "human_ref_b", ("labels",), "1"),
)
"""Columns with two answers and those that say which is better, and a verdict that stands for the first one."""
ASKED: Final = (*PROMPT, *INSTRUCTION, *QUESTION, "history")
"""Columns with what was asked, where two answers are compared."""

THREAD: Final = (
    *("conversation_id", "conv_id", "conversationid", "conversation", "dialogue_id", "dialog_id", "dialogueid"),
    *("thread_id", "thread", "threadid", "thread_ts", "ticket_id", "ticketid", "ticket", "ticket_no"),
    *("ticket_number", "case_id"),
    *("chat_id", "chatid", "session_id", "sessionid", "session", "caseid", "case", "case_number", "channel_id"),
    *("ticketnummer", "ticket_nr", "ticketnr", "vorgang", "vorgangsnummer", "fall", "fallnummer", "gespräch_id"),
    *("issue_id", "request_id", "incident", "incident_id", "interaction_id", "call_id", "room_id"),
)
ROLE: Final = (
    *("role", "from", "speaker", "sender", "author", "author_role", "sender_type", "author_type", "user_type"),
    *("sender_role", "speaker_role", "party", "participant", "direction", "inbound", "message_type", "type"),
    *("from_role", "actor", "side", "rolle", "absender", "sprecher", "autor", "von", "verfasser", "agent_or_customer"),
    *("author_name", "sender_name", "user", "username", "name", "written_by", "sent_by"),
    *("who", "wer", "qui", "quien", "quién", "chi", "kto", "kdo"),
)
SPEAKER: Final = (
    *("role", "from", "speaker", "sender", "author_role", "sender_role", "speaker_role", "from_role", "party", "who"),
    *("participant", "direction", "rolle", "absender", "sprecher", "wer", "qui", "quien", "quién", "chi", "kto", "kdo"),
)
"""Those of `ROLE` that are hardly called so where texts do not answer each other."""
CONTENT: Final = (
    *("content", "text", "message", "body", "comment", "utterance", "msg", "value", "message_text", "message_body"),
    *("comment_body", "plain_body", "nachricht", "inhalt", "nachrichtentext", "texte", "mensaje", "messaggio"),
)
ORDER: Final = (
    *("created_at", "timestamp", "ts", "time", "date", "datetime", "sent_at", "created", "createdat", "sent"),
    *("date_time",),
    *("created_date", "creation_date", "message_time", "posted_at", "turn", "turn_id", "turn_index", "turn_number"),
    *("index", "position", "order", "seq", "sequence", "message_index", "message_number", "step", "utterance_id"),
    *("utterance_idx", "utterance_index", "turn_idx", "msg_index", "message_id", "datum", "zeit", "zeitpunkt"),
    *("zeitstempel", "nummer", "laufende_nummer", "erstellt_am", "gesendet_am", "number", "no", "nr"),
)


def plain(name: str) -> str:
    """A column's name as it is compared."""
    return re.sub(r"[\s\-.]+", "_", name.strip().strip("\ufeff").lower())


class Names:
    """The columns of a dataset, found by what they are called."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self._by_plain: dict[str, str] = {}
        for column in columns:
            self._by_plain.setdefault(plain(column), column)

    def get(self, name: str) -> str | None:
        return self._by_plain.get(name)

    def first(self, names: Sequence[str], *, but: Sequence[str | None] = ()) -> str | None:
        """The column with the first of these names that is there."""
        return next(iter(self.every(names, but=but)), None)

    def every(self, names: Sequence[str], *, but: Sequence[str | None] = ()) -> list[str]:
        """The columns with any of these names, in the names' order."""
        found = (self._by_plain.get(name) for name in names)
        return list(dict.fromkeys(column for column in found if column is not None and column not in but))
