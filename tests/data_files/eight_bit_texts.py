"""Texts in languages that are written in codes of eight bits: a few sentences of daily life, and short ones."""

TEXTS = {
    "pl": (
        "windows-1250",
        "Gdzie jest moja przesyłka? Została wysłana wczoraj i powinna dotrzeć w ciągu trzech dni.\n"
        "Proszę sprawdzić, czy wtyczka jest włożona do końca. Jeśli to nie pomoże, proszę zadzwonić.\n"
        "Urządzenie się nie włącza, bo bateria jest rozładowana. Źródło światła też należy wymienić.\n",
    ),
    "cs": (
        "windows-1250",
        "Kde je moje zásilka? Byla odeslána včera a měla by dorazit během tří dnů.\n"
        "Zkontrolujte prosím, zda je zástrčka zasunutá až na doraz. Pokud to nepomůže, zavolejte nám.\n"
        "Přístroj se nezapíná, protože baterie je vybitá. Žárovku je také třeba vyměnit.\n",
    ),
    "sk": (
        "windows-1250",
        "Kde je moja zásielka? Bola odoslaná včera a mala by doraziť do troch dní.\n"
        "Skontrolujte, prosím, či je zástrčka zasunutá až na doraz. Ak to nepomôže, zavolajte nám.\n"
        "Prístroj sa nezapína, pretože batéria je vybitá. Žiarovku treba tiež vymeniť.\n",
    ),
    "hu": (
        "windows-1250",
        "Hol van a csomagom? Tegnap feladtuk, és három napon belül meg kell érkeznie.\n"
        "Kérjük, ellenőrizze, hogy a dugó teljesen be van-e dugva. Ha ez nem segít, hívjon minket.\n"
        "A készülék nem kapcsol be, mert az akkumulátor lemerült. Az izzót is ki kell cserélni, és a fűtést is.\n",
    ),
    "hr": (
        "windows-1250",
        "Gdje je moja pošiljka? Poslana je jučer i trebala bi stići za tri dana.\n"
        "Provjerite je li utikač umetnut do kraja. Ako to ne pomogne, nazovite nas. Možete i doći.\n"
        "Uređaj se ne uključuje jer je baterija prazna. Žarulju također treba zamijeniti.\n",
    ),
    "ro": (
        "windows-1250",
        "Unde este coletul meu? A fost trimis ieri şi ar trebui să ajungă în trei zile.\n"
        "Vă rugăm să verificaţi dacă ştecherul este introdus până la capăt. Dacă nu ajută, sunaţi-ne.\n"
        "Aparatul nu porneşte pentru că bateria este descărcată. Şi becul trebuie înlocuit. Mulţumim, în câte zile?\n",
    ),
    "tr": (
        "windows-1254",
        "Kargom nerede? Dün gönderildi ve üç gün içinde ulaşması gerekiyor.\n"
        "Lütfen fişin sonuna kadar takılı olduğunu kontrol edin. Bu işe yaramazsa bizi arayın.\n"
        "Cihaz açılmıyor çünkü pil boş. Ampulün de değiştirilmesi gerekiyor. İyi günler.\n",
    ),
    "lt": (
        "windows-1257",
        "Kur yra mano siunta? Ji buvo išsiųsta vakar ir turėtų būti pristatyta per tris dienas.\n"
        "Patikrinkite, ar kištukas įkištas iki galo. Jei tai nepadeda, paskambinkite mums.\n"
        "Įrenginys neįsijungia, nes baterija išsikrovė. Lemputę taip pat reikia pakeisti. Ačiū už žinią.\n",
    ),
    "de": (
        "windows-1252",
        "Wo ist mein Päckchen? Es wurde gestern abgeschickt und müsste in drei Tagen da sein.\n"
        "Bitte prüfen Sie, ob der Stecker bis zum Anschlag steckt. Hilft das nicht, rufen Sie uns an.\n"
        "Das Gerät geht nicht an, weil der Akku leer ist. Schöne Grüße aus der Werkstatt, Straße 5 – „Hallo“.\n",
    ),
    "fr": (
        "windows-1252",
        "Où est mon colis ? Il a été expédié hier et devrait arriver d'ici trois jours, peut-être même plus tôt.\n"
        "Vérifiez que la fiche est bien enfoncée. Si cela n'aide pas, appelez-nous : ça marche très bien.\n"
        "L'appareil ne s'allume pas parce que la batterie est vide. Il faut aussi changer l'ampoule, cœur de l'été.\n",
    ),
    "es": (
        "windows-1252",
        "¿Dónde está mi paquete? Se envió ayer y debería llegar en tres días.\n"
        "Compruebe que el enchufe esté bien metido. Si eso no ayuda, llámenos mañana por la mañana.\n"
        "El aparato no se enciende porque la batería está vacía. También hay que cambiar la bombilla del baño.\n",
    ),
    "pt": (
        "windows-1252",
        "Onde está a minha encomenda? Foi enviada ontem e não deve demorar mais de três dias.\n"
        "Verifique se a ficha está bem encaixada. Se isso não ajudar, ligue-nos. As ligações são grátis.\n"
        "O aparelho não liga porque a bateria está vazia. Também é preciso trocar a lâmpada. Há opções.\n",
    ),
    "it": (
        "windows-1252",
        "Dov'è il mio pacco? È stato spedito ieri e dovrebbe arrivare entro tre giorni, cioè lunedì.\n"
        "Controlli che la spina sia inserita fino in fondo. Se non aiuta, ci chiami: c'è sempre qualcuno, più o meno.\n"
        "L'apparecchio non si accende perché la batteria è scarica. Anche la lampada, però può aspettare.\n",
    ),
    "da": (
        "windows-1252",
        "Hvor er min pakke? Den blev sendt i går og skulle være fremme om tre dage.\n"
        "Kontrollér, at stikket er sat helt i. Hvis det ikke hjælper, så ring til os på søndag.\n"
        "Apparatet tænder ikke, fordi batteriet er tomt. Pæren skal også skiftes. Må vi ønske en god dag?\n",
    ),
    "sv": (
        "windows-1252",
        "Var är mitt paket? Det skickades i går och borde vara framme om tre dagar.\n"
        "Kontrollera att kontakten sitter i ordentligt. Om det inte hjälper, ring oss på måndag.\n"
        "Apparaten går inte igång eftersom batteriet är tomt. Lampan måste också bytas. Förlåt för dröjsmålet.\n",
    ),
    "is": (
        "windows-1252",
        "Hvar er pakkinn minn? Hann var sendur í gær og ætti að koma eftir þrjá daga.\n"
        "Athugið hvort klóin sé alveg í. Ef það hjálpar ekki skuluð þið hringja í okkur.\n"
        "Tækið fer ekki í gang því rafhlaðan er tóm. Það þarf líka að skipta um peruna. Góðan daginn.\n",
    ),
}
"""By language: the code of Windows for it, and three lines."""
